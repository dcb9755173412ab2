"""Records -> what a careful author would publish. `summarize.py` is the command, and every room is also meant for a
notebook: reading, comparing, showing, drawing, page. None of these imports torch; timing, for benchmark.py, does."""
