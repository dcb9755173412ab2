"""Remembers what was computed from a frame, so that the screen, the files and the page do not compute it again."""

import functools
import pickle
from collections.abc import Callable


def once(function: Callable) -> Callable:
    """A function of one frame that computes its result only once for equal frames, and returns a copy of it."""

    @functools.cache
    def known(rows: bytes) -> bytes:
        return pickle.dumps(function(pickle.loads(rows)))

    return functools.wraps(function)(lambda rows: pickle.loads(known(pickle.dumps(rows))))
