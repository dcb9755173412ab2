"""What of a record is nobody else's business: folders of a machine, its name, its user's name."""

import contextlib
import getpass
import re
import socket
import sys
from pathlib import Path

from kdexp import ROOT
from kdexp.config.schema import WHERE, Paths
from kdexp.record.runs import Run

HOMES = r"(?:/[\w.-]+)*/(?:home|Users)/[^/\s:'\",;)]+"  # of whoever made the record, where that was not us


class Private:
    """What is known here, and what a record tells itself. outputs: the folders it was found below."""

    def __init__(self, outputs: list[str]):
        self.users = {Path.home().name}
        with contextlib.suppress(KeyError, OSError):  # a user without an entry, as in some containers
            self.users.add(getpass.getuser())
        self.users -= {""}
        self.hosts = _names(socket.gethostname())
        self.paths = {folder: "outputs" for folder in outputs}
        self.paths |= {str(ROOT): ".", str(Path.cwd()): ".", sys.prefix: "python", str(Path.home()): "~"}

    def of(self, run: Run) -> "Scrub":
        """For the texts of one run, which names folders and a host of its own."""
        own, given = run.config.get("paths") or {}, run.config.get("teacher_checkpoint") or ""
        paths = {str(own.get(key)): default for key, default in vars(Paths()).items()}
        paths |= {given: _name(given), **self.paths}
        hosts = self.hosts | _names((run.status or {}).get("host"))
        return Scrub(paths, dict.fromkeys(self.users, "user") | dict.fromkeys(hosts, "host"))


def _name(file: str | None) -> str | None:
    return file and re.split(r"[\\/]", file)[-1]


def _names(host) -> set[str]:
    """node1.cluster.org is also called node1."""
    return {str(host), str(host).partition(".")[0]} - {"", "None", "localhost"}


def _any(words) -> str:
    """An expression for each of these, the longest first; for none that never fits."""
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True)) or "(?!)"


class Scrub:
    """paths, words: what to replace by what."""

    def __init__(self, paths: dict[str, str], words: dict[str, str]):
        real = {str(form): new for path, new in paths.items() for form in (path, Path(path).resolve())}
        # a bare name is no secret, and / is no folder of anyone's
        self.paths = {path.rstrip("/"): new for path, new in real.items() if path.strip("/") and path.startswith("/")}
        self.words = words
        self._path = re.compile(rf"(?<![\w.-])(?:{_any(self.paths)})(?![\w-])|{HOMES}")
        self._word = re.compile(rf"(?<![^\W_])(?:{_any(words)})(?![^\W_])")  # jdoe in jdoe_data, and not in jdoes

    def folders(self, text: str) -> str:
        return self._path.sub(lambda found: self.paths.get(found.group(), "~"), text)

    def __call__(self, text: str) -> str:
        """A text for people: folders and names."""
        return self._word.sub(lambda found: self.words[found.group()], self.folders(text))

    def left(self, text: str) -> set[str]:
        """Names that still stand in it."""
        return set(self._word.findall(text))

    def config(self, config: dict) -> dict:
        """A configuration that says the same of the run: names may be values (a user called sp), so they go from
        where it ran alone."""
        short = {"paths": vars(Paths()), "teacher_checkpoint": _name(config.get("teacher_checkpoint"))}
        change = lambda key: self if key in WHERE and key != "plugins" else self.folders
        return {key: short[key] if key in short else _texts(value, change(key)) for key, value in config.items()}


def _texts(node, change):
    """A nested value with `change` made to all its strings."""
    if isinstance(node, dict):
        return {key: _texts(value, change) for key, value in node.items()}
    if isinstance(node, list):
        return [_texts(value, change) for value in node]
    return change(node) if isinstance(node, str) else node
