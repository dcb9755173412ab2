"""A paper-style table: blocks that differ only in teacher and student, side by side, one column for each pair."""

import json
import re

import numpy as np
import pandas as pd

from kdexp.report.comparing.across import ROPE, every_two
from kdexp.report.comparing.block import rank
from kdexp.report.comparing.table import is_percent, lower_is_better, method_setting_columns
from kdexp.report.once import once
from kdexp.report.reading.settings import BASELINE

NETWORK = "model.student"  # the shared settings in which the pairs of one paper table may differ


def papers(table: pd.DataFrame, rope: float | None = None) -> list[pd.DataFrame]:
    """One frame for each data set and setting: the rows of its pairs, with `pair` (column number), `method` (the row's name
    in all of them), `family` ("same" if one class builds teacher and student, else "cross"), `place` (of the method in the
    order papers use) and `rope` (the region of practical equivalence, in units of the metric; 0.2 points of accuracy by
    default, 0 for other metrics).

    Pairs with another data set, recipe, precision or device go into another table: their gains are not one sample.
    """
    pairs: dict[tuple, list[pd.DataFrame]] = {}
    for _, rows in table.groupby("block", sort=False):
        if (rows.teacher != "").any():
            shared = json.loads(rows.shared_settings.iloc[0]).items()
            rest = json.dumps({key: value for key, value in shared if not key.startswith(NETWORK)}, sort_keys=True)
            pairs.setdefault((rows.dataset.iloc[0], rest), []).append(named(rows))
    if rope is None:
        rope = ROPE if len(table) and is_percent(table.metric.iloc[0]) else 0.0
    return [joined(blocks).assign(rope=rope) for blocks in pairs.values()]


def named(rows: pd.DataFrame) -> pd.DataFrame:
    """A block, with the columns `method`, `of_teacher` and `family` added."""
    columns, several = method_setting_columns(rows), rows.label.value_counts()
    names = [
        " ".join([row["label"], *(f"{key}={row[key]}" for key in columns if pd.notna(row[key]))])
        if several[row["label"]] > 1
        else row["label"]
        for _, row in rows.iterrows()
    ]
    teacher = " ".join(filter(None, (rows.teacher.max(), rows.weights.max()[:8])))
    own = json.loads(rows.method_settings[rows.teacher != ""].iloc[0])
    same = _kind(json.loads(rows.shared_settings.iloc[0]), NETWORK) == _kind(own, "model.teacher")
    return rows.assign(method=names, of_teacher=teacher, family="same" if same else "cross")


def _kind(settings: dict, network: str) -> tuple:
    """What networks of one family share: their class and, for a library's networks, the leading letters of the architecture."""
    letters = re.match("[a-z]*", str(settings.get(f"{network}.arch", "")).lower())
    return settings.get(f"{network}._target_"), letters and letters.group()


def joined(blocks: list[pd.DataFrame]) -> pd.DataFrame:
    """Blocks in one frame, each numbered as `pair`: same-family pairs first, otherwise in the order of the table."""
    blocks = sorted(blocks, key=lambda rows: rows.family.iloc[0] != "same")
    rows = pd.concat([rows.assign(pair=number) for number, rows in enumerate(blocks)], ignore_index=True)
    first = {name: index for index, name in reversed(list(enumerate(rows.method)))}
    order = sorted(first, key=lambda name: (rank(rows.distill[first[name]]), first[name]))
    return rows.assign(place=rows.method.map({name: place for place, name in enumerate(order)}))


def means(paper: pd.DataFrame) -> pd.DataFrame:
    """(method, pair): the mean of a cell, in units of the metric, higher is better; the baseline's is the one that the gains of
    its pair are measured against, which may have more seeds. NaN if a method was not run, or if runs that others have are
    missing or failed: the remaining runs are not a fair sample."""
    sign = -1 if lower_is_better(paper.metric.iloc[0]) else 1
    against = paper.pair.map(paper.groupby("pair").baseline.first())
    value = paper["mean"].where((paper.distill != BASELINE) | against.isna(), against)
    whole = paper.assign(value=value)[paper.ranked].pivot(index="method", columns="pair", values="value") * sign
    order = paper.sort_values("place").method.unique()
    return whole.reindex(index=order, columns=range(paper.pair.max() + 1))


def baseline(paper: pd.DataFrame) -> str | None:
    """The method name of the label-only row, if there is exactly one."""
    names = paper.method[paper.distill == BASELINE].unique()
    return names[0] if len(names) == 1 else None


def gains(paper: pd.DataFrame) -> pd.DataFrame:
    """(method, pair): gain over the baseline, for complete cells; the baseline itself has no row."""
    values, none = means(paper), baseline(paper)
    if none is None:
        return values.iloc[:0] * np.nan
    return (values - values.loc[none]).drop(index=none)


@once
def every_two_of(paper: pd.DataFrame) -> pd.DataFrame:
    """What holds across these pairs for every two methods (kdexp/report/comparing/across.py)."""
    return every_two(means(paper), baseline(paper), paper.rope.iloc[0])


def shared(paper: pd.DataFrame) -> bool:
    """Whether any pairs share a teacher or a student, so that they are not independent."""
    first = paper.drop_duplicates("pair")
    return bool(first.of_teacher.duplicated().any() or first.student.duplicated().any())


def names(paper: pd.DataFrame) -> list[str]:
    """ "teacher -> student" for each column."""
    first = paper.drop_duplicates("pair").sort_values("pair")
    return [f"{row.of_teacher} -> {row.student}" for row in first.itertuples()]
