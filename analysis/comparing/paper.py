"""The table of a paper: blocks that differ in teacher and student alone, side by side, one column for each pair."""

import json
import re

import numpy as np
import pandas as pd

from analysis.comparing.across import ROPE, every_two
from analysis.comparing.block import rank
from analysis.comparing.table import is_percent, lower_is_better, method_setting_columns
from analysis.reading.settings import BASELINE

NETWORK = "model.student"  # the shared settings that a paper's pairs may differ in


def papers(table: pd.DataFrame, rope: float | None = None) -> list[pd.DataFrame]:
    """A frame for each data set and setting: the rows of its pairs, with `pair` (the number of the column), `method` (what
    a row is called in all of them), `family` ("same" or "cross": whether teacher and student are built by one
    class), `place` (of the method in papers' order) and `rope` (the region of practical equivalence, in units of the metric;
    0.2 points of accuracy, else 0).

    Pairs of another data set, recipe, precision or device are another paper: their gains are no sample of one thing.
    """
    found: dict[tuple, list[pd.DataFrame]] = {}
    for _, rows in table.groupby("block", sort=False):
        if (rows.teacher != "").any():
            shared = {
                key: value
                for key, value in json.loads(rows.shared_settings.iloc[0]).items()
                if not key.startswith(NETWORK)
            }
            found.setdefault((rows.dataset.iloc[0], json.dumps(shared, sort_keys=True)), []).append(named(rows))
    if rope is None:
        rope = ROPE if len(table) and is_percent(table.metric.iloc[0]) else 0.0
    return [joined(blocks).assign(rope=rope) for blocks in found.values()]


def named(rows: pd.DataFrame) -> pd.DataFrame:
    """A block with `method`, `of_teacher` and `family`."""
    columns, several = method_setting_columns(rows), rows.label.value_counts()
    names = [
        " ".join([row["label"], *(f"{key}={row[key]}" for key in columns if pd.notna(row[key]))])
        if several[row["label"]] > 1
        else row["label"]
        for _, row in rows.iterrows()
    ]
    teacher = rows.teacher.max()
    own = json.loads(rows.method_settings[rows.teacher != ""].iloc[0])
    same = _kind(json.loads(rows.shared_settings.iloc[0]), NETWORK) == _kind(own, "model.teacher")
    return rows.assign(method=names, of_teacher=teacher, family="same" if same else "cross")


def _kind(settings: dict, network: str) -> tuple:
    """What networks of one family have in common: their class and, of a library's, the first letters of their architecture."""
    letters = re.match("[a-z]*", str(settings.get(f"{network}.arch", "")).lower())
    return settings.get(f"{network}._target_"), letters and letters.group()


def joined(blocks: list[pd.DataFrame]) -> pd.DataFrame:
    """Blocks in one frame, each with its number as `pair`: pairs of one family first; in each part in the order of the table."""
    blocks = sorted(blocks, key=lambda rows: rows.family.iloc[0] != "same")
    rows = pd.concat([rows.assign(pair=number) for number, rows in enumerate(blocks)], ignore_index=True)
    first = {name: index for index, name in reversed(list(enumerate(rows.method)))}
    order = sorted(first, key=lambda name: (rank(rows.distill[first[name]]), first[name]))
    return rows.assign(place=rows.method.map({name: place for place, name in enumerate(order)}))


def means(paper: pd.DataFrame) -> pd.DataFrame:
    """(method, pair): the mean of a cell, in units of the metric, better when higher. NaN where a method was not run, or
    where runs that others have are missing or failed: what is left of a row is no fair sample."""
    sign = -1 if lower_is_better(paper.metric.iloc[0]) else 1
    whole = paper[paper.ranked].pivot(index="method", columns="pair", values="mean") * sign
    order = paper.sort_values("place").method.unique()
    return whole.reindex(index=order, columns=range(paper.pair.max() + 1))


def baseline(paper: pd.DataFrame) -> str | None:
    """The name of the label-only row, if there is exactly one."""
    names = paper.method[paper.distill == BASELINE].unique()
    return names[0] if len(names) == 1 else None


def gains(paper: pd.DataFrame) -> pd.DataFrame:
    """(method, pair): points over the baseline, of whole cells; the baseline itself has no row."""
    values, control = means(paper), baseline(paper)
    if control is None:
        return values.iloc[:0] * np.nan
    return (values - values.loc[control]).drop(index=control)


def every_two_of(paper: pd.DataFrame) -> pd.DataFrame:
    """What holds over these pairs for every two methods (analysis/comparing/across.py)."""
    return every_two(means(paper), baseline(paper), paper.rope.iloc[0])


def shared(paper: pd.DataFrame) -> bool:
    """Whether pairs have a teacher or a student in common, so that they are less than independent."""
    first = paper.drop_duplicates("pair")
    return bool(first.of_teacher.duplicated().any() or first.student.duplicated().any())


def names(paper: pd.DataFrame) -> list[str]:
    """teacher -> student of each column."""
    first = paper.drop_duplicates("pair").sort_values("pair")
    return [f"{row.of_teacher} -> {row.student}" for row in first.itertuples()]
