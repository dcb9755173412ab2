"""The options of summarize.py, and which runs they select."""

import argparse
import os
from collections.abc import Callable

import pandas as pd

from kdexp.record.runs import plain
from kdexp.report.comparing.table import METRICS
from kdexp.report.reading.records import IDENTITY
from kdexp.spelling import as_typed

EXAMPLES = """examples:
  python analysis/summarize.py                                    every pair below outputs/
  python analysis/summarize.py outputs /mnt/other/outputs         the runs of two machines in one table
  python analysis/summarize.py paper.zip                          records packed by `python -m kdexp.record pack paper.zip`
  python analysis/summarize.py --layout paper                     pairs side by side, and what holds across all of them
  python analysis/summarize.py --html                             the report page, with figures
  python analysis/summarize.py --select student=resnet32 --by distill.weight
  python analysis/summarize.py --over teacher                     intervals over several trainings of the teacher
  python analysis/summarize.py --over images                      adds the intervals over seeds and test images
  python analysis/summarize.py --watch                            while a sweep runs in another terminal
"""


def parser() -> argparse.ArgumentParser:
    line = argparse.ArgumentParser(
        prog=as_typed("python analysis/summarize.py"),
        description="Turns the records below OUTPUTS into what a careful author would publish: a table for each data set and "
        "pair, on the screen and as summary.csv, .md, .tex and .json.",
        epilog=as_typed(EXAMPLES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    home = os.environ.get("KDEXP_OUTPUTS", "outputs")
    line.add_argument(
        "outputs",
        nargs="*",
        default=[home],
        metavar="OUTPUTS",
        help=f"folders of records, or zips of them (default: {home})",
    )
    _choose_runs(line.add_argument_group("which runs, which number").add_argument)
    _arrange(line.add_argument_group("how it is shown").add_argument)
    _write(line.add_argument_group("files, figures, the page").add_argument)
    return line


def _choose_runs(add: Callable) -> None:
    add(
        "--select",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="only these runs; VALUE may be a list a,b; repeatable. KEY: dataset, teacher, student, distill, seed, "
        "any setting (optimizer.lr)",
    )
    add(
        "--metric",
        default="test_acc",
        metavar="NAME",
        help=f"a number in result.json (default: test_acc): {', '.join(METRICS)}, ...",
    )
    add(
        "--over",
        choices=("seed", "teacher", "images"),
        default="seed",
        help="what the intervals cover: student seeds (default), trainings of the teacher, or seeds and test images (shown "
        "next to those over seeds)",
    )
    add(
        "--published",
        metavar="SOURCE",
        help="a published table (a source of kdexp/report/published.csv) instead of records, each number as if it were one run",
    )


def _arrange(add: Callable) -> None:
    add(
        "--by",
        default="distill",
        metavar="COLUMN",
        help="a row for each value of COLUMN (student, teacher, distill.weight ...) and a column for each method",
    )
    add(
        "--layout",
        choices=("pair", "paper"),
        default="pair",
        help="paper: methods as rows, pairs as columns, and what holds across all pairs; also as summary_paper.csv, .md, .tex",
    )
    add(
        "--rope",
        type=float,
        metavar="POINTS",
        help="across pairs, a difference of at most POINTS is a tie (default: 0.2 points of accuracy, 0 for other metrics)",
    )
    add(
        "--against",
        choices=("published",),
        help="compare with published accuracies of the same data set, pair and method",
    )
    add(
        "--watch",
        action="store_true",
        help="redraw while a sweep runs: done, running, failed. Stops when the sweep ends, or with Ctrl-C",
    )


def _write(add: Callable) -> None:
    add("--out", metavar="DIR", help="where files are written (default: the first of OUTPUTS; next to it for a zip)")
    add("--figures", action="store_true", help="figures as PNG and SVG, in DIR/figures")
    add("--html", action="store_true", help="one page with tables, figures and every run: DIR/report.html")
    add(
        "--data",
        metavar="DIR",
        help="folder of the data sets, needed for gains per class, attention maps, and --over images with older runs",
    )


def select(runs: pd.DataFrame, conditions: list[str]) -> pd.DataFrame:
    """Runs that match every KEY=VALUE. A condition on the teacher or the method keeps their baselines.

    Raises ValueError that says what is allowed.
    """
    for condition in conditions:
        key, equals, wanted = condition.partition("=")
        if not equals or key not in runs:
            near = [column for column in runs if key and key in column] or [*IDENTITY, "seed"]
            raise ValueError(
                f"--select {condition}: must be KEY=VALUE, where KEY is a column of the runs, such as {', '.join(near[:8])}"
            )
        values = runs[key].map(plain)
        chosen = values.isin([plain(value) for value in wanted.split(",")])
        if not chosen.any():
            there = ", ".join(sorted({str(value) for value in runs[key].dropna()})[:12])
            raise ValueError(f"--select {condition}: no run has that. There are: {there}")
        if key in ("teacher", "distill", "label") or key.startswith(("distill.", "model.teacher", "teacher_")):
            needed = runs[chosen & (runs.teacher != "")]
            same = ["dataset", "student", "shared_settings"]
            chosen |= (runs.teacher == "") & runs.set_index(same).index.isin(needed.set_index(same).index)
        runs = runs[chosen]
    return runs.reset_index(drop=True)
