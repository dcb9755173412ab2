"""A user's own packages, named by plugins=[mylab]: the yaml files in their conf/ are options beside ours, and a
`_target_` may name their classes and functions."""

import importlib.util
import os
import re
import sys
from pathlib import Path

from kdexp import CONF
from kdexp.errors import UsageError

folders: list[Path] = [CONF]  # where to look for options: ours, then those of each package in use


def typed(words: list[str]) -> list[str]:
    """The packages named on a command line: `plugins=[a,b]`, or `plugins=a,b`."""
    lists = [word.partition("=")[2].strip("[]'\"") for word in words if word.startswith("plugins=")]
    return [name.strip() for name in "".join(lists[-1:]).split(",") if name.strip()]


def use(packages: list[str]) -> None:
    """Find these packages, in the current folder or installed, and their conf/. Raises UsageError."""
    here = os.getcwd()
    if packages and here not in sys.path:
        sys.path.append(here)
        # for the processes that engines start
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), here]))
    folders[1:] = []
    for package in packages:
        found = importlib.util.find_spec(package) if package.isidentifier() else None
        if found is None:
            raise UsageError(
                f"plugins={package}: there is no package of that name. Type the command in the folder that holds "
                f"{package}/, or install it: pip install -e FOLDER"
            )
        for place in found.submodule_search_locations or []:  # None for a single-file module, which has no options
            _add(Path(place, "conf"))


def _add(folder: Path) -> None:
    for file in sorted(folder.glob("*/*.yaml")):
        if any((other / file.relative_to(folder)).exists() for other in folders):
            raise UsageError(f"{file}: there is an option of that name already. Give this one another name")
    folders.append(folder)


def options(group: str) -> list[Path]:
    """The yaml files of a group, sorted by `natural` of their names."""
    files = [file for folder in folders for file in folder.glob(f"{group}/*.yaml")]
    return sorted(files, key=lambda file: natural(file.stem))


def natural(name: str) -> list:
    """A sort key for names that compares numbers as numbers: resnet20 before resnet110."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]
