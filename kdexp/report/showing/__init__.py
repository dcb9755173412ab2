"""Turns the table into text: the screen, Markdown, LaTeX, CSV, JSON, and the sentences below each table."""
