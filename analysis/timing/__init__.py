"""The two training loops that benchmark.py compares, and how commands scale with the number of records."""
