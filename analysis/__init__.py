"""Turns records into what a careful author would publish. `summarize.py` is the command; the packages reading, comparing,
showing, drawing and page also work from a notebook, without torch. Only timing (for benchmark.py) needs torch."""
