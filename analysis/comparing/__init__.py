"""Frames -> the table: what is averaged, and what can be claimed. Nothing is printed here."""
