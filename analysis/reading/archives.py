"""Records in zips (`python -m kdexp.record pack`), opened for the time of a command."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from kdexp.record.pack import unpack


@contextlib.contextmanager
def opened(outputs: list[str]) -> Iterator[tuple[list[str], Callable[[str], str]]]:
    """(folders, shown): zips stand unpacked in a temporary folder, and `shown` puts their own names into a text in
    place of that folder's. Raises ValueError for what is not there, UsageError for a zip that is not of records."""
    with tempfile.TemporaryDirectory() as temporary:
        folders, names = [], {}
        for number, given in enumerate(outputs):
            folder = Path(given)
            if folder.is_file():
                folder = Path(temporary, f"{number}.zip")
                unpack(Path(given), folder)
                names[str(folder)] = given
            elif not folder.is_dir():
                raise ValueError(
                    f"{given}: there is no such folder. Records are made by: python run.py sweep=quickstart"
                )
            folders.append(str(folder))

        def shown(text: str) -> str:
            for folder, given in names.items():
                text = text.replace(folder, given)
            return text

        yield folders, shown
