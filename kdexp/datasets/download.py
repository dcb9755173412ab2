"""Downloads the files of a data set, or says at once what is missing and what works without it."""

import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path

from kdexp.datasets import DatasetError


def download(url: str, root: Path, fetch: Callable[[], object]) -> None:
    """Call `fetch`, which downloads from `url` into `root`. Writes nothing if the address cannot be reached. Raises
    DatasetError."""
    try:
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=5).close()
    except OSError:  # the base class of urllib's errors: no network, no such host, refused
        raise DatasetError(
            f"the data are not in {root.resolve()} and cannot be downloaded from here. Download {url} on a machine "
            "with internet and put the file there, or point paths.data=DIR at a copy. dataset=digits needs no download"
        ) from None
    into(root, url, fetch)


def into(root: Path, url: str, fetch: Callable[[], object]) -> None:
    """Call `fetch`, which writes into `root`. Raises DatasetError."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            pass
        fetch()
    except (OSError, RuntimeError) as error:
        raise DatasetError(
            f"could not be downloaded into {root.resolve()}: {error}. You can put {url} there yourself"
        ) from None
