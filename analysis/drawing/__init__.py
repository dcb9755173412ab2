"""The table -> matplotlib figures."""
