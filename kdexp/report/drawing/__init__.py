"""Turns the table into matplotlib figures."""
