"""Pauses Python's garbage collector."""

import contextlib
import gc


@contextlib.contextmanager
def uncollected():
    """No garbage collection inside: planning a sweep and reading records make many objects that stay, and scanning them over
    and over takes a tenth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
