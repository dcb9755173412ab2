"""Records -> what a careful author would publish. `summarize.py` is the command; every other file is also meant for a
notebook, and none imports torch (benchmark.py, which measures the training step, stands alone)."""
