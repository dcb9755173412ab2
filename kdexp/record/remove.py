"""Deletes runs: says which students are affected, asks, and deletes each run under its lock."""

import shutil
import sys
from pathlib import Path

from omegaconf import MISSING, OmegaConf

from kdexp import CONF, screen
from kdexp.config.schema import AUGMENT, DISTILL, Dataset, Recipe, UsageError
from kdexp.record import Record, lease
from kdexp.record.listing import megabytes
from kdexp.record.runs import Run
from kdexp.screen import counted

SHARED = ("epochs", "batch_size", "precision", "deterministic")  # by a student and its teacher, besides data and recipe


def students_of(teacher: Run, runs: list[Run]) -> list[Run]:
    """The runs that learn from this one: the inverse of kdexp.config.resolve.teacher_of, read from the records."""
    if not teacher.config or teacher.config["model"]["teacher"] or not _as_made_on_demand(teacher.config):
        return []
    return [run for run in runs if run.config and _teaches(teacher, run)]


def _as_made_on_demand(config: dict) -> bool:
    """Whether a label-only run is what a teacher trained on demand would be: no tag, the method's default values, the
    recipe's own optimizer."""
    files = {name: OmegaConf.load(CONF / name) for name in ("distill/none.yaml", "optimizer/sgd.yaml")}
    chosen = {"recipe": _filled(config["recipe"], Recipe()), "optimizer": files["optimizer/sgd.yaml"]}
    own = OmegaConf.to_container(OmegaConf.create(chosen), resolve=True)["optimizer"]
    method = {**DISTILL, **OmegaConf.to_container(files["distill/none.yaml"])}
    words = {"label": None, "note": None}
    return (
        not config.get("tag") and _agree(config["optimizer"], own) and _agree(config["distill"] | words, method | words)
    )


def _teaches(teacher: Run, run: Run) -> bool:
    one, other = teacher.config, run.config
    return (
        bool(other["model"]["teacher"])
        and not other.get("teacher_checkpoint")
        and teacher.folder.resolve().parents[4:5] == run.folder.resolve().parents[4:5]  # one outputs folder
        and one["seed"] == other.get("teacher_seed")
        and one.get("stop_epoch") == other.get("teacher_epoch")
        and _agree(one["model"]["student"], other["model"]["teacher"])
        and all(one.get(key) == other.get(key) for key in SHARED)
        and _filled(one["dataset"], Dataset()) == _filled(other["dataset"], Dataset())
        and _filled(one["recipe"], Recipe()) == _filled(other["recipe"], Recipe())
        and one.get("augment", AUGMENT) == other.get("augment", AUGMENT)
    )


def _agree(one: dict, other: dict) -> bool:
    """Equal in every key that both have: an older record may lack a key that was added later."""
    return all(one[key] == other[key] for key in one.keys() & other.keys())


def _filled(node: dict, schema) -> dict:
    return {key: value for key, value in vars(schema).items() if value != MISSING} | node


def remark(chosen: list[Run], there: list[Run]) -> None:
    """Name the students that would stay although their teacher is among the chosen runs."""
    stay = [run for run in there if run not in chosen]
    for run in chosen:
        if students := students_of(run, stay):
            names = [f"{one.facts['student']} {one.method} seed {one.facts['seed']}" for one in students[:4]]
            screen.say(
                f"{run.pair} seed {run.facts['seed']} is the teacher of {counted(len(students), 'student')} that would stay "
                f"({', '.join(names)}{', ...' * (len(students) > 4)}): "
                "their numbers stay valid, and the next run that needs this teacher trains it again"
            )


def refuse_live(runs: list[Run]) -> None:
    """Raises UsageError if a process is working on one of them."""
    if live := [run for run in runs if lease.is_live(run.status or {})]:
        status = live[0].status
        raise UsageError(
            f"{live[0].folder}: process {status['pid']} on {status['host']} is working on it. Nothing was deleted. "
            "Stop it first, or leave it out with status=done,stopped,failed,diverged"
        )


def confirm(runs: list[Run], yes: bool) -> None:
    """Ask on a terminal. Raises UsageError unless the answer is yes."""
    which = "this run" if len(runs) == 1 else f"these {len(runs)} runs"
    question = f"Delete {which}, {megabytes(runs)} MB?"
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            f"Nothing was deleted: this is not a terminal, so there is nobody to ask. {question} If so, add --yes"
        )
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().casefold() not in ("y", "yes"):
        raise UsageError("Nothing was deleted.")


def delete(run: Run, outputs: list[str]) -> bool:
    """Delete a run's folder and the folders above it that are then empty, up to the outputs folder; False if another
    process has locked it in the meantime. Raises UsageError."""
    record = Record(run.folder)
    if not record.lock():
        screen.say(f"{run.folder} was not deleted: another process is working on it")
        return False
    try:
        shutil.rmtree(run.folder)
    except OSError as error:
        raise UsageError(f"{error.filename} cannot be deleted: {error.strerror}") from None
    finally:
        record.unlock()  # removes the lease file
    tops = [Path(folder).resolve() for folder in outputs]
    for above in run.folder.resolve().parents:
        if any(above.is_relative_to(top) and above != top for top in tops) and not any(above.iterdir()):
            above.rmdir()
    return True
