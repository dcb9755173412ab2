"""The table -> text: the screen, Markdown, LaTeX, CSV, JSON, and the sentences below."""
