"""Does the order of methods survive the recipe? The answer in one sentence, and what it rests on."""

import json

import pandas as pd

from analysis.comparing.recipes import compared, everywhere, recipes
from analysis.comparing.table import is_percent
from analysis.showing.labels import listed, number, probability, teacher_of

MANY = 6  # pairs of methods that a sentence names


def answer(family: pd.DataFrame, changes: pd.DataFrame, order: pd.DataFrame) -> tuple[str, list[str]]:
    """(one sentence, those below it). changes, order: of this family (analysis/comparing/recipes.py)."""
    metric = family.metric.iloc[0]
    if changes.empty:
        return f"Nothing can be claimed about the order of methods under these recipes: {_why(family)}.", []
    moved, swaps, kept = _moved(changes, metric), _swapped(order, metric), _kept(order)
    duels = order.groupby(["first", "second"]).ngroups
    if swaps:
        said = f"The order of methods changes with the recipe: {swaps[0]}."
    elif duels and len(kept) == duels:
        said = "The order of methods survives: every two are told apart under every recipe, and in the same order."
    elif moved:
        said = f"Gains change with the recipe: {moved[0]}. No two methods change places for certain."
    else:
        said = "These seeds cannot tell whether the order survives: no two methods change places for certain, and no gain changes."
    return said, [
        *([f"These change places, too: {'; '.join(swaps[1:])}."] if swaps[1:] else []),
        _gains(changes, [text for text in moved if text not in said], metric),
        *_seen(order),
        *_same(kept, duels),
        *_left_out(family),
        *_scope(family),
    ]


def _gains(changes: pd.DataFrame, others: list[str], metric: str) -> str:
    """The test, and whose gains change, but for what the answer has told."""
    p = f"Max-t test that no gain depends on the recipe: p {probability(changes.p.min())}"
    if others:
        return f"{p}. {'; '.join(others)}."
    if ((changes.low > 0) | (changes.high < 0)).any():
        return f"{p}. No other gain changes for certain."
    return f"{p}. The largest change seen: {_change(changes.loc[changes.difference.abs().idxmax()], metric)}."


def _why(family: pd.DataFrame) -> str:
    if family.over.iloc[0] == "teacher":
        return "the baseline has no teacher, and no seeds in common with the methods"
    return "that takes two seeds of the baseline and of one method, under two recipes"


def _points(value: float, metric: str, sign: str = "") -> str:
    return f"{number(value, metric, sign)}{' points' * is_percent(metric)}"


def _interval(low: float, high: float, metric: str) -> str:
    return f"{number(low, metric, '+')} .. {number(high, metric, '+')}"


def _change(row: pd.Series, metric: str) -> str:
    """RKD's gain is 2.10 points higher under cutmix300 than under crd240 (+0.93 .. +3.27)"""
    names, ends = (row.under, row.other), (row.low, row.high)
    if row.difference < 0:
        names, ends = names[::-1], (-row.high, -row.low)
    size = _points(abs(row.difference), metric)
    return f"{row.method}'s gain is {size} higher under {names[0]} than under {names[1]} ({_interval(*ends, metric)})"


def _moved(changes: pd.DataFrame, metric: str) -> list[str]:
    """The gains that change for certain: of each method the most certain change, the most certain method first."""
    sure = changes[(changes.low > 0) | (changes.high < 0)]
    if sure.empty:
        return []
    t = (sure.difference / (sure.high - sure.low)).abs()
    best = t.groupby(sure.method).idxmax()
    return [_change(sure.loc[index], metric) for index in t[best].sort_values(ascending=False).index]


def _swapped(order: pd.DataFrame, metric: str) -> list[str]:
    """The two that change places for certain, the most certain ones first."""
    found = []
    for (first, second), rows in order.groupby(["first", "second"], sort=False):
        better, worse = (_clearest(rows[rows.better == sign]) for sign in (1, -1))
        if better is not None and worse is not None:
            texts = [f"under {row.under} ({_difference(row, metric)})" for row in (better, worse)]
            sure = min(abs(row.difference) / (row.high - row.low) for row in (better, worse))
            found.append((-sure, f"{first} is better than {second} {texts[0]} and worse {texts[1]}"))
    return [text for _, text in sorted(found)]


def _difference(row: pd.Series, metric: str) -> str:
    return f"{_points(row.difference, metric, '+')}, {_interval(row.low, row.high, metric)}"


def _clearest(rows: pd.DataFrame) -> pd.Series | None:
    return rows.loc[rows.difference.abs().idxmax()] if len(rows) else None


def _kept(order: pd.DataFrame) -> list[tuple[str, str]]:
    """(better, worse) of every two that are told apart under every recipe, the same way round."""
    found = []
    for names, rows in order.groupby(["first", "second"], sort=False):
        if abs(rows.better.sum()) == len(rows):
            found.append(names if rows.better.iloc[0] > 0 else names[::-1])
    return found


def _seen(order: pd.DataFrame) -> list[str]:
    """What changes places in the means alone."""
    found = []
    for names, rows in order.groupby(["first", "second"], sort=False):
        certain = {1, -1} <= set(rows.better)
        if not certain and rows.difference.min() < 0 < rows.difference.max():
            found.append(" and ".join(names))
    more = f"; and {len(found) - MANY} more" * (len(found) > MANY)
    return [f"Change places in the means, but not for certain: {'; '.join(found[:MANY])}{more}."] if found else []


def _same(kept: list[tuple[str, str]], duels: int) -> list[str]:
    """RKD above none and KD; KD above none (3 of 10 pairs)"""
    if not duels:
        return []
    below: dict[str, list[str]] = {}
    for better, worse in kept:
        below.setdefault(better, []).append(worse)
    texts = [
        f"{better} better than {listed(worse)}"
        for better, worse in sorted(below.items(), key=lambda item: -len(item[1]))
    ]
    return [
        f"Told apart under every recipe, and in the same order: {'; '.join(texts) or 'no two'} ({len(kept)} of {duels} pairs)."
    ]


def _left_out(family: pd.DataFrame) -> list[str]:
    """Recipes and methods of which nothing is claimed here, and why."""
    rows, some = compared(family), everywhere(family)
    without = [name for name in recipes(family) if name not in set(rows.under)]
    said = (
        [f"Nothing is claimed under {listed(without)}: one seed, no variation, or runs of the baseline are missing."]
        if without
        else []
    )
    used, texts = [name for name in recipes(family) if name not in without], []
    for method in dict.fromkeys(family.sort_values("place").method):
        mine = family[(family.method == method) & ~family.index.isin(rows.index)].set_index("under")
        if method not in some:
            gone = [name for name in used if name not in set(rows.under[rows.method == method])]
            texts += [f"{method} under {name} ({_reason(mine, name)})" for name in gone]
    return [*said, f"Left out, and not in the order: {listed(texts)}."] if texts else said


def _reason(mine: pd.DataFrame, name: str) -> str:
    if name not in mine.index:
        return "not run"
    return "varies far more over seeds than the others" if mine.ranked[name] else f"{mine.state[name]} runs"


def _scope(family: pd.DataFrame) -> list[str]:
    """How it was found and what it does not cover."""
    given = {json.loads(text).get("teacher_checkpoint") for text in family.method_settings[family.teacher != ""]}
    teacher = teacher_of(family)
    one = len(given) == 1 and None not in given
    whose = f"One {teacher} taught under all recipes" if one else f"Each recipe has its own {teacher}, trained once"
    return [
        "All intervals of changes hold together with 95 %, and so do the comparisons behind the order, where none counts as a "
        "method. Within a recipe, methods share seeds and batches; nothing is paired between recipes.",
        f"{whose}: another training of it may give other gains and another order, which these intervals do not cover.",
    ]
