"""What a block of the table shows, in plain words: its findings, and the commands that run what is missing."""

import json

import numpy as np
import pandas as pd

from kdexp import CONF
from kdexp.report.comparing.multivariate_t import LEVEL, units_needed
from kdexp.report.comparing.resolution import of_rows
from kdexp.report.comparing.table import lower_is_better
from kdexp.report.once import once
from kdexp.report.reading.settings import BASELINE
from kdexp.report.showing import labels, noisy_baseline
from kdexp.report.showing.controls import controls
from kdexp.report.showing.labels import amount, cut, listed, name, names, teacher_of
from kdexp.spelling import as_typed


@once
def sentences(rows: pd.DataFrame) -> list[str]:
    """Sentences: which methods are better and worse than the baseline, which may be best, what these seeds can resolve, which
    were compared by another test, and what the intervals do not cover."""
    unit, methods = labels.unit(rows), rows[rows.distill != BASELINE]
    ranked = methods[methods.ranked]
    said = []
    if methods.of.max() < 2:
        said.append(f"One {unit}: nothing can be claimed about differences. Run at least three.")
    elif len(ranked):
        said += [*_against_baseline(rows, ranked, unit), *_best(rows, ranked, unit), *controls(rows)]
        said += [*_resolution(rows, ranked, unit), *noisy_baseline.sentences(rows, ranked, unit)]
    apart = names(rows[rows.apart], rows)
    said += _wide(rows, unit)
    if apart:
        said.append(f"The noise of {listed(apart)} is not part of the others' intervals.")
    out = [f"{name(row, rows)} {row.state}" for _, row in rows[~rows.ranked].iterrows()]
    if out:
        said.append(f"Not ranked: {', '.join(out)}.")
    said += _omitted(rows)
    return [*said, _scope(rows, unit)] if len(ranked) and methods.of.max() > 1 else said


def _omitted(rows: pd.DataFrame) -> list[str]:
    """Which classes the students did not see in training."""
    omitted = json.loads(json.loads(rows.shared_settings.iloc[0]).get("omit", "[]"))
    if not omitted:
        return []
    classes = f"{'class' if len(omitted) == 1 else 'classes'} {listed(list(map(str, omitted)))}"
    return [f"No student had training images of {classes}. Accuracy on one class: --metric class_acc.{omitted[0]}."]


def _wide(rows: pd.DataFrame, unit: str) -> list[str]:
    """Which rows vary far more than the others, and how they are compared."""
    odds = rows.wide & (rows.test == "log odds")
    said = []
    for which, how in (
        (odds, "compared on the scale of log odds, where that is not so"),
        (rows.wide & ~odds, "compared by Welch's t, apart from the model"),
    ):
        if which.any():
            vary = "varies" if which.sum() == 1 else "vary"
            said.append(f"{listed(names(rows[which], rows))} {vary} far more over {unit}s than the others: {how}.")
    return said


def verdict(rows: pd.DataFrame) -> tuple[pd.Series | None, str]:
    """(the row with the best mean, one sentence on whether to believe it); (None, why) if nothing can be said."""
    ranked = rows[(rows.distill != BASELINE) & rows.ranked]
    if ranked.empty:
        return None, "No method has all its runs yet."
    best = _sorted(ranked).iloc[0]
    title, rivals = name(best, rows), names(_sorted(ranked[ranked.best & (ranked.index != best.name)]), rows)
    if not np.isfinite(best.low):
        return best, "Nothing can be claimed: too few values, no baseline, or no variation."
    gain = -best.gain if lower_is_better(best.metric) else best.gain
    surely = best.p < LEVEL and gain > 0
    first = (
        f"{title} is better than none"
        if surely
        else f"Not certain: {best.n} {labels.unit(rows)}s cannot tell {title} from none"
    )
    if best.p < LEVEL and gain < 0:
        first = f"No: even {title} is worse than none"
    alone = bool(best.best) and not rivals and not ranked.open.any() and len(ranked) > 1
    second = f", but {listed(rivals)} may be as good" if rivals else ", and better than every other method" * alone
    return best, f"{'Yes: ' if surely and alone else ''}{first}{second}."


def _against_baseline(rows: pd.DataFrame, ranked: pd.DataFrame, unit: str) -> list[str]:
    if ranked.low.isna().all():
        count = int((rows.distill == BASELINE).sum())
        why = ("it has not been run", "nothing varies")[count] if count < 2 else "there are several"
        return [f"No comparison with the baseline: {why}."]
    up, down = ranked.low > 0, ranked.high < 0
    better, worse = (down, up) if lower_is_better(rows.metric.iloc[0]) else (up, down)
    uneven = ~up & ~down & uneven_and_far(ranked)
    groups = (
        ("Better than none", better),
        ("Worse", worse),
        ("Not significantly different from none", ~up & ~down & ~uneven),
    )
    texts = [f"{words}: {listed(names(ranked[which], rows))}." for words, which in groups if which.any()]
    if uneven.any():
        apart = [_far(row, rows, unit) for _, row in ranked[uneven].iterrows()]
        texts.append(f"Too uneven over {unit}s for a verdict: {listed(apart)}.")
    return [" ".join(texts if better.any() else ["No method is significantly better than none.", *texts])]


def uneven_and_far(rows: pd.DataFrame) -> pd.Series:
    """Rows that vary far more than the others and, on every seed, are further from the baseline than the others' noise
    explains. It would be silly to say that these are like the baseline."""
    return (rows.test == "Welch: wide") & (rows.gain.abs() > rows.resolves) & rows.one_way


def _far(row, rows: pd.DataFrame, unit: str) -> str:
    """AT (56.07 points below none, on every seed)"""
    side = "above" if row.gain > 0 else "below"
    return f"{name(row, rows)} ({amount(abs(row.gain), row.metric)} {side} none, on every {unit})"


def _sorted(rows: pd.DataFrame) -> pd.DataFrame:
    """Best first."""
    ascending = len(rows) > 0 and lower_is_better(rows.metric.iloc[0])
    return rows.sort_values("mean", ascending=ascending, kind="stable")


def _best(rows: pd.DataFrame, ranked: pd.DataFrame, unit: str) -> list[str]:
    best = names(_sorted(ranked[ranked.best]), rows)
    if not best or len(ranked) < 2:
        return []
    left = listed(names(_sorted(ranked[ranked.open]), rows)) if ranked.open.any() else ""
    if len(best) == 1 and not left:
        return [f"{best[0]} is the best of these methods (95 %)."]
    rivals = f"; {listed(best[1:])} cannot be told apart from it" if len(best) > 1 else ""
    verb = "is" if ranked.open.sum() == 1 else "are"
    far = f" {left} {verb} far behind, but too uneven over {unit}s to prove it." if left else ""
    return [f"{best[0]} has the best mean{rivals}.{far}"]


def _resolution(rows: pd.DataFrame, ranked: pd.DataFrame, unit: str) -> list[str]:
    """Which difference this many seeds can detect, and how many it would take to detect the ones seen but not proven."""
    first, count = ranked.iloc[0], len(ranked) + (not ranked.noisy.any())
    if not np.isfinite(first.resolves):
        return []
    said = f"{ranked.of.max()} {unit}s resolve {_resolved(rows, ranked)} (power 80 %)"
    unproven = _unproven(ranked)
    best = _sorted(ranked[ranked.best & ~ranked.wide])
    wanted = []
    if len(unproven):
        row = unproven.loc[unproven.gain.abs().idxmax()]
        own = first.resolves != first.resolves_methods
        needed = of_rows(rows).units_needed(row.gain) if own else units_needed(row.gain, first.sigma, count)
        wanted.append((f"{name(row, rows)} and none", row.gain, needed))
    if len(best) > 1:
        gap = best["mean"].iloc[0] - best["mean"].iloc[1]
        needed = units_needed(gap, first.sigma, count)
        wanted.append((f"{name(best.iloc[0], rows)} and {name(best.iloc[1], rows)}", gap, needed))
    texts = []
    for what, difference, needed in wanted:
        seen = f"the {amount(abs(difference), first.metric)} between {what}"
        texts.append(f"Resolving {seen} would take {f'about {needed}' if needed else 'more than 100'} {unit}s")
    return [". ".join([said, *texts]) + "."]


def _resolved(rows: pd.DataFrame, ranked: pd.DataFrame) -> str:
    """differences of about 1.81 points here; two numbers if they differ for gains and between methods"""
    gain, among = (amount(ranked[column].iloc[0], rows.metric.iloc[0]) for column in ("resolves", "resolves_methods"))
    if len(ranked) < 2 or gain == among:
        return f"differences of about {gain} here"
    return f"gains of about {gain} and differences between methods of about {among} here"


def _unproven(ranked: pd.DataFrame) -> pd.DataFrame:
    """The methods that the model does not find different from the baseline."""
    return ranked[(ranked.low <= 0) & (ranked.high >= 0) & ranked.test.isin(["model", "noisy baseline"])]


def _scope(rows: pd.DataFrame, unit: str) -> str:
    teacher = teacher_of(rows)
    if unit == "seed":
        start = "Intervals are over student seeds, for this one teacher"
        return f"{start}; another training of {teacher} may give other gains (--over teacher)."
    start = f"Intervals are over trainings of {teacher}"
    return f"{start}; the baseline has none and is compared by Welch's t over its seeds."


def commands(rows: pd.DataFrame) -> list[str]:
    """Sentences with the command that runs what a block lacks: its baseline, seeds that other methods have, or one teacher
    for all of its students."""
    said, taught = [], rows[rows.distill != BASELINE]
    if rows.weights.any() and taught.replaced.any():
        again = _command(taught.iloc[0], ",".join(dict.fromkeys(taught.distill)), taught.wanted.iloc[0])
        said.append(f"To train them under the teacher that is there now: {again} rerun=changed")
    if len(taught) and len(taught) == len(rows):
        said.append(f"The baseline is missing: {_command(taught.iloc[0], 'none', taught.wanted.iloc[0])}")
    if rows.over.iloc[0] != "teacher" and rows.lacking.any():
        for (_, lacking), incomplete in rows[rows.lacking != ""].groupby(["words", "lacking"], sort=False):
            chosen = ",".join(dict.fromkeys(incomplete.distill))
            said.append(f"Seeds are missing: {_command(incomplete.iloc[0], chosen, lacking)}")
    return said


def _command(row, chosen: str, seeds: str) -> str:
    baseline = chosen == BASELINE
    parts = json.loads(row.words)
    parts = ["dataset.root=DIR" if part.startswith("dataset.content=") else part for part in parts]
    if baseline:
        parts = [part for part in parts if not part.startswith(("distill.", "teacher_"))]
    named = [("dataset", row.dataset), ("model", row.student), *(("distill", name) for name in chosen.split(","))]
    named += [] if baseline else [("model", row.teacher)]
    known = row.variant and all((CONF / group / f"{name}.yaml").exists() for group, name in named)
    if not known or any("=" not in part or part.startswith("teacher_checkpoint") or cut(part) for part in parts):
        return f"distill={chosen} seed={seeds}, with what was typed for the rows above"
    pair = [f"student={row.student}"] if baseline else [f"teacher={row.teacher}", f"student={row.student}"]
    return " ".join(
        [as_typed("python run.py -m"), f"distill={chosen}", f"dataset={row.dataset}", *pair, f"seed={seeds}", *parts]
    )
