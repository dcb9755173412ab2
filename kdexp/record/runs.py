"""Finds the runs below outputs folders, reads their records, and selects among them by KEY=VALUE. Without torch."""

import difflib
import os
from functools import cached_property
from pathlib import Path

from kdexp.config.schema import flatten, label
from kdexp.errors import UsageError
from kdexp.record import Record
from kdexp.storage import lease, seal

FILES = {"status.json", "config.yaml", "result.json"}
KEYS = ("dataset", "teacher", "student", "distill", "seed", "variant", "recipe", "epochs", "status")
MAKE = "Records are made by: python run.py sweep=quickstart"


class Run:
    """A record that is only read, as far as possible, while `Record` also writes it. Never raises: one that cannot be read
    has the state "damaged"."""

    def __init__(self, folder: Path):
        nameless = folder.name in ("", "..")  # the lease beside the folder is named after it
        self.folder = folder.resolve() if nameless else folder
        self.variant = self.folder.absolute().parent.name
        self.status, self.result = (seal.read_json(folder / name) for name in ("status.json", "result.json"))

    @cached_property
    def config(self) -> dict:
        """config.yaml; {} if it is not a run's. It is cached, so don't modify it."""
        found = Record(self.folder).config
        try:
            named = [found[section]["name"] for section in ("dataset", "recipe", "optimizer", "distill")]
            return found if all([*named, found["model"]["student"]["name"]]) and "seed" in found else {}
        except (KeyError, TypeError):
            return {}

    @cached_property
    def state(self) -> str:
        """done, running, stopped, failed, diverged or damaged. result.json is written last: without it a run is not
        done, whatever status.json says."""
        if self.status is None or self.result is None or not self.config:
            return "damaged"
        said = self.status.get("status")
        if self.result or said not in ("running", "done"):
            return "done" if self.result else str(said or "stopped")
        return "running" if lease.is_live(self.status) else "stopped"

    @cached_property
    def facts(self) -> dict:
        """What a run can be selected by: KEYS, and every setting by its dotted key."""
        flat = {key.removesuffix(".name"): value for key, value in flatten(self.config).items()}
        named = {"variant": self.variant, "teacher": flat.get("model.teacher"), "student": flat.get("model.student")}
        return {**flat, **named, "status": self.state} if flat else {"status": self.state}

    @property
    def taught_by(self) -> list[str]:
        """The sha256 of the weights of each teacher; empty for a baseline, and in records of earlier versions."""
        made = {**(self.status or {}), **(self.result or {})}
        return [one["sha256"] for one in made.get("teachers", [])]

    @property
    def pair(self) -> str:
        teacher, student = self.facts["teacher"], self.facts["student"]
        return f"{teacher} -> {student}" if teacher else student

    @property
    def method(self) -> str:
        return label(self.config["distill"])

    @property
    def place(self) -> Path:
        """Its standard folder below an outputs folder (kdexp.config.naming.folder), wherever it is now."""
        pair = self.pair.replace(" -> ", "-")
        return Path(self.facts["dataset"], pair, self.facts["distill"], self.variant, f"seed{self.facts['seed']}")

    @cached_property
    def bytes(self) -> int:
        """The size of all its files."""
        return sum(
            os.lstat(os.path.join(top, name)).st_size for top, _, files in os.walk(self.folder) for name in files
        )


def folders(outputs) -> dict[str, set[str]]:
    """Every folder below these that holds a file of a record -> which of FILES it has. Each folder comes once."""
    found, seen = {}, set()
    for top in outputs:
        for folder, inside, files in os.walk(os.fspath(top)):
            if has := FILES.intersection(files):
                inside.clear()
                if (real := os.path.realpath(folder) if len(outputs) > 1 else folder) not in seen:
                    seen.add(real)
                    found[folder] = has
            inside.sort()
    return found


def find(outputs: list[str]) -> list[Run]:
    """The runs below these folders, in the order of a table. One file alone is not a record: a folder of
    configurations has a config.yaml too. Raises UsageError if there is no such folder or no run."""
    for folder in outputs:
        if not os.path.isdir(folder):
            raise UsageError(f"{folder}: there is no such folder. {MAKE}")
    runs = [Run(Path(folder)) for folder, has in folders(outputs).items() if len(has) > 1]
    if not runs:
        raise UsageError(f"{', '.join(outputs)}: no records there. {MAKE}")
    return sorted(runs, key=lambda run: [_order(run.facts.get(key)) for key in KEYS[:6]])


def _order(value) -> tuple:
    return (isinstance(value, str), value) if isinstance(value, (str, int, float)) else (False, -1)


def select(runs: list[Run], conditions: list[str]) -> list[Run]:
    """The runs that match every KEY=VALUE; a VALUE a,b matches either. Raises UsageError that lists what there is."""
    for condition in conditions:
        key, _, value = condition.partition("=")
        there = {plain(run.facts[key]): run.facts[key] for run in runs if key in run.facts}
        if not there:
            raise UsageError(_no_key(condition, key, runs))
        wanted = [value] if plain(value) in there else value.split(",")
        if missing := [one for one in wanted if plain(one) not in there]:
            shown = ", ".join("null" if one is None else str(one) for one in sorted(there.values(), key=_order)[:12])
            raise UsageError(f"{condition}: no run has {missing[0] or 'that'}. There are: {shown}")
        chosen = {plain(one) for one in wanted}
        runs = [run for run in runs if key in run.facts and plain(run.facts[key]) in chosen]
    return runs


def plain(value) -> str:
    """How a value is compared: 0.10 is 0.1, KD is kd, True is true, null is none."""
    try:
        return repr(float(value)) if not isinstance(value, bool) else str(value).casefold()
    except (TypeError, ValueError):
        text = str(value).casefold().replace(" ", "")
        return "none" if text == "null" else text


def _no_key(condition: str, key: str, runs: list[Run]) -> str:
    known = dict.fromkeys([*KEYS, *(name for run in runs for name in run.facts)])
    near = [name for name in known if name.endswith(f".{key}")] or difflib.get_close_matches(key, list(known), 1)
    meant = f"Did you mean {near[0]}{condition[len(key) :]}? " if key and near else ""
    return (
        f"{condition}: no run has such a key. {meant}"
        f"There are: {', '.join(KEYS)}, and every setting in config.yaml, such as distill.weight=500"
    )
