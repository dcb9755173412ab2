"""Puts the table, the figures and every run into one HTML file."""
