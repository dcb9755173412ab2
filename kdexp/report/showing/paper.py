"""A paper-style table as text: methods as rows in the order papers use, pairs as columns headed by teacher and student."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from kdexp.report.comparing.paper import baseline, gains
from kdexp.report.comparing.table import lower_is_better
from kdexp.report.reading.settings import BASELINE
from kdexp.report.showing import labels
from kdexp.report.showing.cautions import cautions
from kdexp.report.showing.labels import number
from kdexp.report.showing.output import LEGEND, OPEN, mark

ABSENT = "–"


@dataclass(frozen=True)
class Part:
    """One table: pairs of one family, or across families. heads: (teacher, its accuracy, student) for each column. rows:
    (method, a cell for each column, mean gain); a cell is (text, mark), where the mark is "*", "?" or ""."""

    title: str
    heads: list[tuple[str, str, str]]
    rows: list[tuple[str, list[tuple[str, str]], str]]


def parts(paper: pd.DataFrame) -> list[Part]:
    """One table, or two if there are pairs of one family and pairs across families."""
    kinds = {"same": "teacher and student of one family", "cross": "teacher and student of different families"}
    there = [(kinds[kind], paper[paper.family == kind]) for kind in kinds if (paper.family == kind).any()]
    return [_part(title if len(there) > 1 else "", rows, paper) for title, rows in there]


def _part(title: str, rows: pd.DataFrame, paper: pd.DataFrame) -> Part:
    first = rows.drop_duplicates("pair").sort_values("pair")
    metric = paper.metric.iloc[0]
    accuracy = {pair: labels.teacher_accuracy(some) for pair, some in rows.groupby("pair")}
    heads = [(row.of_teacher, _known(accuracy[row.pair]), row.student) for row in first.itertuples()]
    usual = rows.n.max()
    cell = {(row.method, row.pair): (_cell(row, usual), mark(row)) for row in rows.itertuples()}
    gained = gains(paper)[list(first.pair)] * (-1 if lower_is_better(metric) else 1)
    none, lines = baseline(paper), []
    for name in paper.sort_values("place").method.unique():
        cells = [cell.get((name, pair), (ABSENT, "")) for pair in first.pair]
        known = gained.loc[name].dropna() if name in gained.index else pd.Series(dtype=float)
        few = f" ({len(known)} of {len(heads)})" if 0 < len(known) < len(heads) else ""
        mean = "" if name == none else (number(known.mean(), metric, "+") + few if len(known) else ABSENT)
        if any(text != ABSENT for text, _ in cells):
            lines.append((name, cells, mean))
    return Part(title, heads, lines)


def _known(accuracy: float) -> str:
    return f"{accuracy:.2f}" if np.isfinite(accuracy) else ""


def _cell(row, usual: int) -> str:
    """71.20 ± 0.31, with (2) if it has fewer seeds than usual; if there is no value, the reason."""
    if not row.n:
        return row.state.partition("(")[2].rstrip(")").lstrip("0123456789 ") or ABSENT
    spread = f" ± {number(row.std, row.metric)}" if pd.notna(row.std) else ""
    return f"{number(row.mean, row.metric)}{spread}" + (f" ({row.n})" if row.n != usual else "")


def title(paper: pd.DataFrame) -> str:
    """digits   test accuracy, last epoch, %: mean ± std over 3 seeds"""
    count, unit = int(paper.n.max()), labels.unit(paper)
    what = f": mean ± std over {count} {unit}s" if count > 1 else f", one {unit} each"
    return f"{paper.dataset.iloc[0]}   {labels.measured(paper.metric.iloc[0])}{what}"


def notes(paper: pd.DataFrame) -> list[str]:
    """What the marks mean, which cells are missing or failed, and the notes in the methods' yaml files."""
    pairs = [some.reset_index(drop=True) for _, some in paper.groupby("pair")]
    said = [caution for rows in pairs for caution in cautions(rows)]
    if paper.best.any():
        said.append(f"*  {LEGEND.partition('   ')[0]} In each column by itself.")
    if paper.open.any():
        said.append(f"?  {OPEN}")
    if paper.n.max() < 2:
        said.append("One run each: nothing can be claimed about differences, so nothing is marked.")
    if (paper.more > 0).any():
        said.append(
            "Gains also use seeds that only the baseline has; its own column shows the mean of the seeds that all have."
        )
    left = paper[~paper.ranked]
    if len(left):
        cells = [f"{row.method} on {row.of_teacher} -> {row.student} {row.state}" for row in left.itertuples()]
        said.append(f"Incomplete, so not ranked and not in any mean gain: {', '.join(cells)}.")
    every = paper[paper.distill != BASELINE].groupby("method").pair.nunique()
    absent = [
        f"{name} ({count} of {paper.pair.nunique()})" for name, count in every.items() if count < paper.pair.nunique()
    ]
    if absent:
        said.append(f"{ABSENT}  not run. Run on some pairs only: {', '.join(absent)}.")
    return [*said, *labels.footnotes(paper)]
