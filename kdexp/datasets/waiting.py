"""Work on a data set's files that one process does while the others wait."""

import contextlib
from collections.abc import Iterator

from filelock import BaseFileLock, Timeout

from kdexp import screen


@contextlib.contextmanager
def alone(lock: BaseFileLock, work: str) -> Iterator[None]:
    """Inside, this process holds the lock. Says so if it has to wait for another one, whose `work` it names."""
    try:
        lock.acquire(timeout=0.1)
    except Timeout:
        screen.say(f"waiting for another process that is {work}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
