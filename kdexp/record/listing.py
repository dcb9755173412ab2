"""Runs as a table of text."""

from collections import Counter

from tabulate import tabulate

from kdexp.record.runs import Run
from kdexp.screen import counted

HEADERS = ("dataset", "pair", "method", "variant", "seed", "state", "test %", "MB")
ALIGNED = ("left", "left", "left", "left", "right", "left", "right", "right")
STATES = ("done", "running", "stopped", "failed", "diverged", "damaged")


def megabytes(runs: list[Run]) -> str:
    return f"{sum(run.bytes for run in runs) / 1e6:,.1f}"


def table(runs: list[Run]) -> str:
    """A row for each run, and a line with the totals."""
    lines = tabulate([_row(run) for run in runs], HEADERS, "plain", disable_numparse=True, colalign=ALIGNED)
    return f"{lines}\n{states(runs)}   {megabytes(runs)} MB"


def states(runs: list[Run]) -> str:
    """24 runs: 20 done, 4 failed"""
    found = Counter(run.state for run in runs)
    order = sorted(found, key=lambda state: STATES.index(state) if state in STATES else len(STATES))
    return f"{counted(len(runs), 'run')}: {', '.join(f'{found[one]} {one}' for one in order)}"


def _row(run: Run) -> list[str]:
    facts, accuracy = run.facts, (run.result or {}).get("test_acc")
    if not run.config:
        return ["?", "?", "?", str(run.folder), "?", run.state, "", megabytes([run])]
    measured = f"{accuracy:.2f}" if isinstance(accuracy, (int, float)) else ""
    return [facts["dataset"], run.pair, run.method, run.variant, facts["seed"], run.state, measured, megabytes([run])]
