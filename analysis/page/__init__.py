"""The table, the figures and every run -> one HTML file."""
