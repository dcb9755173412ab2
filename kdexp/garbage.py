"""Python looks through all objects again and again, for garbage that reference counts do not find."""

import contextlib
import gc


@contextlib.contextmanager
def uncollected():
    """Inside, it does not: planning a sweep and reading records make many objects that stay, and looking through them takes
    a tenth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
