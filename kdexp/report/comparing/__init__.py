"""Turns data frames into the table: what is averaged, and what can be claimed. Nothing is printed here."""
