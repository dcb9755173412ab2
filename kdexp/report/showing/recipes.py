"""The same methods under several recipes: gains with ranks, and how much each gain changes, as text."""

from dataclasses import dataclass

import pandas as pd

from kdexp.report.comparing import recipes
from kdexp.report.comparing.table import lower_is_better
from kdexp.report.once import once
from kdexp.report.reading.settings import BASELINE
from kdexp.report.showing.labels import interval, measured, number, probability, teacher_of
from kdexp.report.showing.recipe_findings import answer

FEW = 3  # up to this many recipes, every two are shown; above, only each method's most certain change


@dataclass(frozen=True)
class Section:
    """One pair under several recipes. gains, changed: tables as text. answer: one sentence; reasons: the sentences below it.
    changes, order: the numbers (kdexp/report/comparing/recipes.py)."""

    recipes: list[str]
    heading: str
    gains: pd.DataFrame
    changed: pd.DataFrame
    answer: str
    reasons: list[str]
    changes: pd.DataFrame
    order: pd.DataFrame
    block: int  # the pair's last block, below which this is printed


@once
def sections(table: pd.DataFrame) -> list[Section]:
    """One for each pair of the table that was trained under several recipes."""
    return [_section(family) for family in recipes.families(table)]


def _section(family: pd.DataFrame) -> Section:
    first, names = family.iloc[0], recipes.recipes(family)
    title = (
        f"{first.dataset}   {teacher_of(family)} -> {first.student}   {len(names)} recipes   {measured(first.metric)}"
    )
    changes, order = recipes.changes(family), recipes.order(family)
    texts = _gains(family), _changed(changes, family)
    return Section(names, title, *texts, *answer(family, changes, order), changes, order, int(family.block.max()))


def _gains(family: pd.DataFrame) -> pd.DataFrame:
    """Each method's gain over none under each recipe and its rank by mean, for rows that are complete under every recipe."""
    metric, whole, names = family.metric.iloc[0], family[family.ranked], recipes.recipes(family)
    everywhere = whole.groupby("method").pair.transform("nunique") == len(names)
    ranks = whole[everywhere].groupby("pair")["mean"].rank(method="min", ascending=lower_is_better(metric))
    cells: dict[str, dict[str, str]] = {}
    for index, row in family.sort_values("place").iterrows():
        baseline = row.distill == BASELINE
        value = number(row["mean"], metric) if baseline else number(row.gain, metric, "+")
        line = cells.setdefault(f"{row.method} (mean)" if baseline else row.method, {})
        line[row.under] = f"{value} ({ranks[index]:.0f})" if index in ranks.index else value
    head = "gain over none (rank)"
    return pd.DataFrame([{head: name, **line} for name, line in cells.items()], columns=[head, *names]).fillna("")


def _changed(changes: pd.DataFrame, family: pd.DataFrame) -> pd.DataFrame:
    """How much each method's gain differs between two recipes."""
    metric = family.metric.iloc[0]
    if len(recipes.recipes(family)) > FEW and len(changes):
        changes = changes.loc[changes.groupby("method", sort=False).p.idxmin()]
    rows = list(changes.itertuples())
    return pd.DataFrame(
        {
            "method": changes.method.to_list(),
            "gain under": [f"{row.under} minus {row.other}" for row in rows],
            "change": [number(row.difference, metric, "+") for row in rows],
            "95 % interval": [interval(row.low, row.high, metric) for row in rows],
            "p": [probability(row.p) for row in rows],
        }
    )
