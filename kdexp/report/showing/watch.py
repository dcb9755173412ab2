"""Watch a sweep while it runs, from its records alone: done, running (epoch, accuracy, time left), failed."""

import time
from collections import Counter

import numpy as np
import pandas as pd
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from kdexp.report.reading.records import epochs, read
from kdexp.screen import duration

QUIET = 3  # stop after this many redraws with no live run: between two groups nothing runs for a moment


COLUMNS = ["name", "status", "epoch", "epochs", "test_acc", "left", "error", "folder"]


def snapshot(runs: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """A row per unfinished run: name, status, epoch, epochs, test_acc (percent), left (seconds, from its last five epochs),
    error, folder."""
    states, rows_of = [], dict([*rows.groupby("run")])
    for run in runs[runs.status != "done"].itertuples():
        past = rows_of.get(run.Index, rows.iloc[:0])
        epoch = int(past.epoch.max()) if len(past) else 0
        states.append(
            {
                "name": f"{run.teacher + ' -> ' if run.teacher else ''}{run.student} {run.label} seed {run.seed}",
                "status": run.status,
                "epoch": epoch,
                "epochs": int(run.epochs),
                "test_acc": past.test_acc.iloc[-1] if len(past) else float("nan"),
                "left": (int(run.epochs) - epoch) * past.seconds.tail(5).mean(),
                "error": run.error if isinstance(run.error, str) else "",
                "folder": run.folder,
            }
        )
    return pd.DataFrame(states, columns=COLUMNS)


def render(runs: pd.DataFrame, state: pd.DataFrame, lines: int = 30) -> Group:
    """The drawing: one line of counts, the running runs, those that failed or were stopped."""
    running, failed = state[state.status == "running"], state[state.status != "running"]
    counts = Counter(runs.status)
    order = ("done", "running", "failed", "diverged", *sorted(counts))
    head = " · ".join(f"{counts[name]} {name}" for name in dict.fromkeys(order) if counts[name])
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("running", "epoch", "test, %", "left"):
        shown.add_column(column, justify="left" if column == "running" else "right", no_wrap=True)
    for row in running.head(lines).itertuples():
        accuracy = "" if pd.isna(row.test_acc) else f"{row.test_acc:.2f}"
        left = duration(row.left) if np.isfinite(row.left) else ""
        shown.add_row(Text(row.name), f"{row.epoch}/{row.epochs}", accuracy, left)
    more = [Text(f"... and {len(running) - lines} more")] if len(running) > lines else []
    bad = []
    for row in failed.head(lines).itertuples():
        text = f"{row.status}: {row.name}   {row.error}\n    {row.folder}/run.log"
        bad.append(Text(text, style="yellow" if row.status == "stopped" else "red"))
    return Group(Text(head or "no runs yet"), *([shown] if len(running) else []), *more, *bad)


def watch(outputs: list[str], every: float = 2.0, sleep=time.sleep) -> None:
    """Redraw until no run is alive any more, or Ctrl-C. If stdout is not a terminal, print only when something changed."""
    console, quiet, before = Console(highlight=False), 0, None
    with Live(console=console, auto_refresh=False, transient=False) if console.is_terminal else console as screen:
        while quiet < QUIET:
            runs, _ = read(*outputs)
            state, drawing = pd.DataFrame(columns=COLUMNS), Group("no runs yet")
            if len(runs):
                state = snapshot(runs, epochs(runs[runs.status != "done"]))
                drawing = render(runs, state)
            known = (len(runs), state.drop(columns="left").to_csv())
            if isinstance(screen, Live):
                screen.update(drawing, refresh=True)
            elif known != before:
                screen.print(drawing)
            before = known
            quiet = 0 if (state.status == "running").any() else quiet + 1
            if quiet < QUIET:
                sleep(every)
