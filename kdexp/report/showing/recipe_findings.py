"""Does the ranking depend on the recipe? The answer in one sentence, and what it rests on."""

import json

import pandas as pd

from kdexp.report.comparing.recipes import compared, places, recipes
from kdexp.report.reading.settings import BASELINE
from kdexp.report.showing.labels import interval, listed, points, probability, teacher_of

MANY = 6  # at most this many pairs of methods are listed in a sentence


def answer(family: pd.DataFrame, changes: pd.DataFrame, order: pd.DataFrame) -> tuple[str, list[str]]:
    """(the answer in one sentence, the sentences below it). changes, order: of this family (kdexp/report/comparing/recipes.py)."""
    metric = family.metric.iloc[0]
    if changes.empty:
        return f"Nothing can be claimed about the ranking under these recipes: {_why(family)}.", []
    moved, duels, swaps = _moved(changes, metric), places(order), _swapped(order, metric)
    if swaps:
        said = f"The ranking changes with the recipe: {swaps[0]}."
    elif len(duels) and (duels.verdict == "kept").all():
        said = "The ranking does not depend on the recipe: every two methods differ significantly, in the same order under every recipe."
    elif moved:
        said = f"Gains change with the recipe: {moved[0]}. No two methods swap places significantly."
    else:
        said = "These seeds cannot tell whether the ranking depends on the recipe: no swap and no change of a gain is significant."
    return said, [
        *([f"These swap places, too: {'; '.join(swaps[1:])}."] if swaps[1:] else []),
        _gains(changes, [text for text in moved if text not in said], metric),
        *_not_swapped(duels, order),
        *_left_out(family),
        *_scope(family),
    ]


def _gains(changes: pd.DataFrame, others: list[str], metric: str) -> str:
    """The test, and which gains change, except for those already in the answer."""
    p = f'Max-t test of "no gain depends on the recipe": p {probability(changes.p.min())}'
    if others:
        return f"{p}. {'; '.join(others)}."
    if ((changes.low > 0) | (changes.high < 0)).any():
        return f"{p}. No other change of a gain is significant."
    return f"{p}. The largest change seen: {_change(changes.loc[changes.difference.abs().idxmax()], metric)}."


def _why(family: pd.DataFrame) -> str:
    if family.over.iloc[0] == "teacher":
        return "the baseline has no teacher, and no seeds in common with the methods"
    return "that takes two seeds of the baseline and of one method, under two recipes"


def _change(row: pd.Series, metric: str) -> str:
    """RKD's gain is 2.10 points higher under cutmix300 than under crd240 (+0.93 .. +3.27)"""
    names, ends = (row.under, row.other), (row.low, row.high)
    if row.difference < 0:
        names, ends = names[::-1], (-row.high, -row.low)
    size = points(abs(row.difference), metric)
    return f"{row.method}'s gain is {size} higher under {names[0]} than under {names[1]} ({interval(*ends, metric)})"


def _moved(changes: pd.DataFrame, metric: str) -> list[str]:
    """The gains that change significantly: the clearest change of each method, the clearest method first."""
    sure = changes[(changes.low > 0) | (changes.high < 0)]
    if sure.empty:
        return []
    t = (sure.difference / (sure.high - sure.low)).abs()
    best = t.groupby(sure.method).idxmax()
    return [_change(sure.loc[index], metric) for index in t[best].sort_values(ascending=False).index]


def _swapped(order: pd.DataFrame, metric: str) -> list[str]:
    """The pairs of methods that swap places significantly, the clearest first."""
    swaps = []
    for (first, second), rows in order.groupby(["first", "second"], sort=False):
        better, worse = (_clearest(rows[rows.better == sign]) for sign in (1, -1))
        if better is not None and worse is not None:
            texts = [f"under {row.under} ({_difference(row, metric)})" for row in (better, worse)]
            sure = min(abs(row.difference) / (row.high - row.low) for row in (better, worse))
            swaps.append((-sure, f"{first} is better than {second} {texts[0]} and worse {texts[1]}"))
    return [text for _, text in sorted(swaps)]


def _difference(row: pd.Series, metric: str) -> str:
    return f"{points(row.difference, metric, '+')}, {interval(row.low, row.high, metric)}"


def _clearest(rows: pd.DataFrame) -> pd.Series | None:
    return rows.loc[rows.difference.abs().idxmax()] if len(rows) else None


def _not_swapped(duels: pd.DataFrame, order: pd.DataFrame) -> list[str]:
    """Which means swap places without significance; and "RKD better than none and KD; KD better than none (3 of 10 pairs)"."""
    seen = [f"{row.first} and {row.second}" for row in duels[duels.crossed & (duels.verdict == "open")].itertuples()]
    more = f"; and {len(seen) - MANY} more" * (len(seen) > MANY)
    said = [f"Swap places in the means, but not significantly: {'; '.join(seen[:MANY])}{more}."] if seen else []
    kept = order.merge(duels[duels.verdict == "kept"], on=["first", "second"]).drop_duplicates(["first", "second"])
    below: dict[str, list[str]] = {}
    for row in kept.itertuples():
        better, worse = (row.first, row.second)[:: row.better]
        below.setdefault(better, []).append(worse)
    texts = [f"{name} better than {listed(below[name])}" for name in sorted(below, key=lambda name: -len(below[name]))]
    count = f"({len(kept)} of {len(duels)} pairs)"
    return [
        *said,
        f"Significantly different under every recipe, in the same order: {'; '.join(texts) or 'no two'} {count}.",
    ]


def _left_out(family: pd.DataFrame) -> list[str]:
    """What is compared in another way; for which recipes and methods nothing is claimed here, and why."""
    rows, texts = compared(family), []
    without = [name for name in recipes(family) if name not in set(rows.under)]
    for method in dict.fromkeys(family.sort_values("place").method):
        by_recipe = family[family.method == method].set_index("under")
        gone = set(rows.under) - set(rows.under[rows.method == method])
        texts += [f"{method} under {name} ({_reason(by_recipe, name)})" for name in recipes(family) if name in gone]
    reasons = [f"{name} ({_no_claim(family[family.under == name])})" for name in without]
    wide = [f"{row.method} under {row.under}" for row in rows[rows.wide.astype(bool)].itertuples()]
    noisy = rows.under[rows.noisy.astype(bool) & (rows.distill == BASELINE)].to_list()
    sentences = (
        ("none varies more over seeds than the methods do under {}, so gains have wider intervals there.", noisy),
        ("Vary far more over seeds than the others, so their intervals are wide: {}.", wide),
        ("Nothing is claimed under {}.", reasons),
        ("Not compared under every recipe, so not in the order: {}.", texts),
    )
    return [sentence.format(listed(names)) for sentence, names in sentences if names]


def _no_claim(rows: pd.DataFrame) -> str:
    if rows.sigma.isna().all():
        return "one seed, or nothing varies"
    whole = rows.ranked[rows.distill == BASELINE].any()
    return "no method shares its seeds with the baseline" if whole else "runs of the baseline are missing"


def _reason(by_recipe: pd.DataFrame, name: str) -> str:
    if name not in by_recipe.index:
        return "not run"
    return "no seeds in common with the baseline" if by_recipe.ranked[name] else f"{by_recipe.state[name]} runs"


def _scope(family: pd.DataFrame) -> list[str]:
    """How it was tested and what it does not cover."""
    files = {json.loads(text).get("teacher_checkpoint") for text in family.method_settings[family.teacher != ""]}
    teacher, same = teacher_of(family), len(files) == 1 and None not in files
    whose = f"One {teacher} taught under all recipes" if same else f"Each recipe has its own {teacher}, trained once"
    return [
        "All intervals of changes hold jointly at 95 %, and so do the comparisons behind the order, those with the baseline "
        "among them. Within a recipe, methods share seeds and batches; nothing is paired between recipes.",
        f"{whose}: another training of it may give other gains and another order, which these intervals do not cover.",
    ]
