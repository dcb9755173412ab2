"""A command: what it plans, shows, trains and reports."""
