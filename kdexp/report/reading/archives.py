"""Records in zips (`python -m kdexp.record pack`), unpacked for the duration of a command."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from kdexp.record.pack import unpack


@contextlib.contextmanager
def opened(outputs: list[str]) -> Iterator[tuple[list[str], Callable[[str], str]]]:
    """(folders, shown): zips are unpacked into a temporary folder, and `shown` replaces that folder's name in a text by
    the zip's. Raises ValueError if a path does not exist, UsageError if a zip does not hold records."""
    with tempfile.TemporaryDirectory() as temporary:
        folders, names = [], {}
        for number, typed in enumerate(outputs):
            folder = Path(typed)
            if folder.is_file():
                folder = Path(temporary, f"{number}.zip")
                unpack(Path(typed), folder)
                names[str(folder)] = typed
            elif not folder.is_dir():
                raise ValueError(
                    f"{typed}: there is no such folder. Records are made by: python run.py sweep=quickstart"
                )
            folders.append(str(folder))

        def shown(text: str) -> str:
            for folder, typed in names.items():
                text = text.replace(folder, typed)
            return text

        yield folders, shown
