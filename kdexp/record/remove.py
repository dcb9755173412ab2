"""Deletes runs: says which students are affected, asks, and deletes each run under its lock."""

import shutil
import sys
from pathlib import Path

from kdexp import screen
from kdexp.errors import UsageError
from kdexp.record import Record
from kdexp.record.listing import megabytes
from kdexp.record.runs import Run
from kdexp.screen import counted
from kdexp.storage import lease


def students_of(teacher: Run, runs: list[Run]) -> list[Run]:
    """The runs, finished or not, that this one's weights teach. Records of earlier versions don't say whose did."""
    weights = (teacher.result or {}).get("student_sha256")
    return [run for run in runs if weights and weights in run.taught_by]


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
