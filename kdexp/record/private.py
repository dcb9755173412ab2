"""Removes private details from records: a machine's paths, its host name, its user's name."""

import contextlib
import getpass
import re
import socket
import sys
from pathlib import Path

from kdexp import ROOT
from kdexp.config.schema import WHERE, Paths
from kdexp.record.runs import Run

HOMES = r"(?:/[\w.-]+)*/(?:home|Users)/[^/\s:'\",;)]+"  # home folders of whoever made the record, if not us


class Private:
    """Private paths and names, from this machine and from the record itself. outputs: where the records were found."""

    def __init__(self, outputs: list[str]):
        self.users = {Path.home().name}
        with contextlib.suppress(KeyError, OSError):  # a user without a passwd entry, as in some containers
            self.users.add(getpass.getuser())
        self.users -= {""}
        self.hosts = _names(socket.gethostname())
        self.paths = {folder: "outputs" for folder in outputs}
        self.paths |= {str(ROOT): ".", str(Path.cwd()): ".", sys.prefix: "python", str(Path.home()): "~"}

    def of(self, run: Run) -> "Scrub":
        """The scrubber for one run, whose record names its own folders and host."""
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
    """A pattern that matches any of these, longest first; for no words, one that never matches."""
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True)) or "(?!)"


class Scrub:
    """Replaces private details in a text. paths, words: what to replace -> replacement."""

    def __init__(self, paths: dict[str, str], words: dict[str, str]):
        real = {str(form): new for path, new in paths.items() for form in (path, Path(path).resolve())}
        # a bare name is no secret, and / belongs to nobody
        self.paths = {path.rstrip("/"): new for path, new in real.items() if path.strip("/") and path.startswith("/")}
        self.words = words
        self._path = re.compile(rf"(?<![\w.-])(?:{_any(self.paths)})(?![\w-])|{HOMES}")
        self._word = re.compile(rf"(?<![^\W_])(?:{_any(words)})(?![^\W_])")  # jdoe in jdoe_data, and not in jdoes

    def folders(self, text: str) -> str:
        return self._path.sub(lambda found: self.paths.get(found.group(), "~"), text)

    def __call__(self, text: str) -> str:
        """Replace folders and names, in a text for people to read."""
        return self._word.sub(lambda found: self.words[found.group()], self.folders(text))

    def left(self, text: str) -> set[str]:
        """Private names that are still in the text."""
        return set(self._word.findall(text))

    def config(self, config: dict) -> dict:
        """The configuration, still describing the same run. A name may be a value too (a user called sp), so names are
        replaced only in the keys that say where the run was computed."""
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
