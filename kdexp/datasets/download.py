"""Gets the files of a data set, once for all processes, or says at once what is missing and what works without it."""

import contextlib
import os
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path

from filelock import FileLock
from torchvision.datasets.utils import check_integrity

from kdexp.datasets import DatasetError
from kdexp.datasets.waiting import alone


def get(root: Path, url: str, files: dict[Path, str], fetch: Callable[[], object], offline: bool = False) -> None:
    """Call `fetch`, which downloads from `url` or unpacks into `root`, if any of the files (path -> md5) is missing. Only one
    process does so; the others wait. offline: `fetch` needs no network. Writes nothing if the address cannot be reached.
    Raises DatasetError, also for a file with another md5."""
    damaged = lambda: next((path for path, md5 in files.items() if not check_integrity(path, md5)), None)
    missing = lambda: not all(path.exists() for path in files)
    if not damaged():
        return
    if missing() and (noted := _missing.get()) is not None:
        noted.append(root)
        raise DatasetError(f"the data are not in {root.resolve()} yet")
    if missing() and not offline:
        _reach(url, root)
    if missing() or os.access(root, os.W_OK):  # another process may be unpacking them
        _alone(root, url, lambda: fetch() if missing() else None)
    if path := damaged():
        raise DatasetError(
            f"{path} is corrupt: its md5 is not the original's. Delete {path.parent} and start again to download it again"
        )


_missing: ContextVar[list[Path] | None] = ContextVar(
    "where data are missing, if nothing is to be downloaded", default=None
)


@contextlib.contextmanager
def nothing_downloaded() -> Iterator[list[Path]]:
    """Inside, missing files are an error. Yields the folders they are missing from."""
    missing: list[Path] = []
    token = _missing.set(missing)
    try:
        yield missing
    finally:
        _missing.reset(token)


def _reach(url: str, root: Path) -> None:
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=5).close()
    except OSError:  # the base class of urllib's errors: no network, no such host, refused
        raise DatasetError(
            f"the data are not in {root.resolve()} and cannot be downloaded from here. Download {url} on a machine "
            "with internet and put the file there, or point paths.data=DIR at a copy. dataset=digits needs no download"
        ) from None


def _alone(root: Path, url: str, action: Callable[[], object]) -> None:
    """Do this while no other process does."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            pass
        with alone(FileLock(root / ".download.lock"), f"downloading into {root.resolve()}"):
            action()
    except (OSError, RuntimeError) as error:
        raise DatasetError(
            f"could not be downloaded into {root.resolve()}: {error}. You can put {url} there yourself"
        ) from None
