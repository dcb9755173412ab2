"""The two loops that benchmark.py measures, the only files here that import torch."""
