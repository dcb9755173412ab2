"""Runs -> the table: a row per method and settings of each dataset and pair, with what can be claimed about it."""

import json
from collections import Counter

import numpy as np
import pandas as pd

from analysis.comparisons import Fit, among_best, compare, fit, paired_p, smallest_difference
from analysis.settings import differing

ORDER = ("none", "kd", "fn", "nst", "at", "rkd", "sp", "od")  # as papers list them; others follow by name
BASELINE, KD = "none", "kd"
METRICS = {
    "test_acc": "test accuracy, last epoch, %",
    "best_test_acc": "test accuracy, best epoch, %: chosen on the test set, not for claims",
    "test_top5": "top-5 test accuracy, last epoch, %",
    "val_acc": "validation accuracy, last epoch, %",
    "test_loss": "test loss, last epoch",
    "seconds": "training time, s",
    "seconds_per_epoch": "training time of an epoch, s",
    "peak_memory_mb": "peak memory, MiB",
}
LOWER_IS_BETTER = ("loss", "seconds", "memory", "params")
FIRST = ["dataset", "teacher", "student", "distill", "n", "mean", "std"]
LAST = [
    *("label", "of", "state", "teacher_acc", "baseline", "gain", "low", "high", "p", "test", "paired_p"),
    *("over_kd", "over_kd_low", "over_kd_high", "over_kd_p", "best", "metric", "over", "sigma", "df", "resolves"),
    *("note", "variant"),
]
HIDDEN = ["ranked", "wide", "block", "units", "lacking", "terms", "own"]  # for words and pages, not for files


def lower_is_better(metric: str) -> bool:
    return any(word in metric for word in LOWER_IS_BETTER)


def summarize(runs: pd.DataFrame, metric: str = "test_acc", over: str = "seed") -> pd.DataFrame:
    """The table of these runs, blocks (dataset, teacher, student, terms) one below the other, baseline first in each.

    metric: a numeric column of `runs`. over: "seed", or "teacher" to take teacher draws (teacher_seed, checkpoint) as what varies;
    a draw is the mean of its seeds. n, mean, std: over these. of, state: how many there should be, and why not. gain,
    low, high, p: over the baseline, in units of the metric, with simultaneous 95 % interval; over_kd...: the same over KD; paired_p: plain
    paired t; test: "model", or why it was Welch's. best: not distinguishable from the best. sigma, df: the noise; resolves: the difference found with 80 %.
    Columns named like settings: what differs among the rows of a pair. See analysis/comparisons.py. Networks
    trained on labels alone that are nobody's baseline follow as blocks of one row. Raises ValueError for a metric that is no number.
    """
    runs, sign = _measured(runs, metric, over), -1 if lower_is_better(metric) else 1
    taught, blocks, used = runs[runs.teacher != ""], [], set()
    untaught = {key: group for key, group in runs[runs.teacher == ""].groupby(["dataset", "student", "terms"])}
    for (dataset, teacher, student, terms), group in taught.groupby(["dataset", "teacher", "student", "terms"]):
        used |= {(dataset, student, terms), (dataset, teacher, terms)}
        blocks.append(_block(group, untaught.get((dataset, student, terms), taught[:0]), sign))
    blocks += [_block(taught[:0], group, sign) for key, group in untaught.items() if key not in used]
    table = pd.concat([block.assign(block=number) for number, block in enumerate(blocks)], ignore_index=True)
    table = _with_settings(table.assign(metric=metric, over=over))
    middle = [column for column in table if column not in (*FIRST, *LAST, *HIDDEN)]
    return table[[*FIRST, *middle, *LAST, *HIDDEN]]


def _measured(runs: pd.DataFrame, metric: str, over: str) -> pd.DataFrame:
    """Runs with `value` (NaN if there is none), `unit` (what they are repeated over) and `own` without it."""
    if metric not in runs or not pd.to_numeric(runs[metric], errors="coerce").notna().any():
        raise ValueError(f"metric={metric}: no run has such a number")
    value = pd.to_numeric(runs[metric], errors="coerce").replace([np.inf, -np.inf], np.nan).astype(float)
    runs = runs.assign(value=value.where(runs.status == "done"), unit=runs.seed.astype(str))
    if over == "teacher":
        draws = runs.own.map(_draw)
        taught = runs.teacher != ""
        runs["unit"] = draws.str[0].where(taught, "seed " + runs.unit)
        runs["own"] = draws.str[1]
    return runs


def _draw(own: str) -> tuple[str, str]:
    """Settings -> (the teacher draw, the rest)."""
    rest = json.loads(own)
    seed, checkpoint = rest.pop("teacher_seed", None), rest.pop("teacher_checkpoint", None)
    return f"teacher {checkpoint or seed}", json.dumps(rest, sort_keys=True)


def _block(taught: pd.DataFrame, baseline: pd.DataFrame, sign: int) -> pd.DataFrame:
    """The rows of one block: their numbers, then what the comparisons say."""
    expected = _seeds(taught if len(taught) else baseline)
    shared = baseline[baseline.unit.isin(list(expected))]
    baseline = shared if len(shared) else baseline  # its further seeds are no part of this comparison
    groups = [(group, expected if len(shared) else _seeds(baseline)) for _, group in baseline.groupby("own")]
    groups += [(group, expected) for _, group in taught.groupby(["distill", "own"])]
    groups.sort(key=lambda pair: _rank(pair[0].distill.iloc[0]))
    cells = [_cells(group, seeds) for group, seeds in groups]
    frame = pd.DataFrame([_row(group, seeds, found) for (group, seeds), found in zip(groups, cells)])
    return _compared(frame, pd.DataFrame(cells).to_numpy(float), sign)


def _rank(name: str) -> tuple:
    return (ORDER.index(name) if name in ORDER else len(ORDER), name)


def _seeds(runs: pd.DataFrame) -> dict[str, set]:
    """Unit -> the seeds that any run has there."""
    return {unit: set(seeds) for unit, seeds in runs.groupby("unit", sort=False).seed}


def _cells(group: pd.DataFrame, expected: dict[str, set]) -> dict[str, float]:
    """Unit -> mean over its seeds; NaN unless all that are expected have a value."""
    found: dict[str, dict] = {unit: {} for unit in expected}
    for unit, seed, value in zip(group.unit, group.seed, group.value):
        if unit in found and np.isfinite(value):
            found[unit][seed] = value
    return {
        unit: float(np.mean([*values.values()])) if values.keys() >= expected[unit] else np.nan
        for unit, values in found.items()
    }


def _row(group: pd.DataFrame, expected: dict[str, set], cells: dict[str, float]) -> dict:
    there = np.array([value for value in cells.values() if np.isfinite(value)])
    holes = [unit for unit, value in cells.items() if not np.isfinite(value)]
    ran = set(zip(group.unit, group.seed))
    reasons = Counter()
    for unit in holes:
        states = {status for where, status, value in zip(group.unit, group.status, group.value) if where == unit and not np.isfinite(value)}
        absent = any((unit, seed) not in ran for seed in expected[unit])
        reasons["missing" if absent else "without a value" if states == {"done"} else min(states - {"done"})] += 1
    words = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    done, first = group[group.status == "done"], group.iloc[0]
    return {
        **{key: first[key] for key in ("dataset", "teacher", "student", "distill", "label", "note", "terms", "own")},
        "variant": next((text for text in done.get("variant", ()) if isinstance(text, str)), ""),
        "n": len(there),
        "mean": there.mean() if len(there) else np.nan,
        "std": there.std(ddof=1) if len(there) > 1 else np.nan,
        "of": len(cells),
        "state": f"{len(there)} of {len(cells)} ({words})" if holes else str(len(there)),
        "ranked": not holes,
        "teacher_acc": pd.to_numeric(done.get("teacher_test_acc", pd.Series(dtype=float)), errors="coerce").mean(),
        "lacking": ",".join(str(seed) for seed in sorted({seed for unit in holes for seed in expected[unit] if (unit, seed) not in ran})),
        "units": ",".join(expected),
    }


def _compared(frame: pd.DataFrame, values: np.ndarray, sign: int) -> pd.DataFrame:
    """Add the comparisons of a block: with its baseline, with KD, with the best."""
    model, rows = fit(values), np.arange(len(frame))
    baseline, kd = (list(rows[frame.distill == name]) for name in (BASELINE, KD))
    methods = rows[(frame.distill != BASELINE) & frame.ranked]
    frame = frame.assign(sigma=model.sigma, df=model.df, wide=model.wide, test="", paired_p=np.nan)
    frame["baseline"] = frame["mean"].iloc[baseline[0]] if len(baseline) == 1 else np.nan
    _against(frame, model, baseline, list(methods), ("gain", "low", "high", "p"))
    kd = [row for row in kd if row in methods]
    _against(frame, model, kd, [row for row in methods if row not in kd], ("over_kd", "over_kd_low", "over_kd_high", "over_kd_p"))
    if len(baseline) == 1:
        frame.loc[methods, "paired_p"] = [paired_p(values[row], values[baseline[0]]) for row in methods]
        apart = model.wide | model.wide[baseline[0]]
        together = [model.together(row, baseline[0]) for row in methods]
        frame.loc[methods, "test"] = np.where(together, "model", np.where(apart[methods], "Welch: wide", "Welch: unpaired"))
    ranked = rows[frame.ranked]
    frame["best"] = False
    frame.loc[ranked, "best"] = among_best(fit(sign * values), list(ranked))
    frame["resolves"] = smallest_difference(model.sigma, max(len(ranked), 2), values.shape[1])
    return frame


def _against(frame: pd.DataFrame, model: Fit, control: list[int], ranked: list[int], names: tuple[str, ...]) -> None:
    """Fill, in place, the differences of all methods from the control (one row, or nothing is said), and interval and p of the ranked ones."""
    difference, low, high, p = names
    frame[[*names]] = np.nan
    if len(control) != 1:
        return
    others = [row for row in range(len(frame)) if row != control[0] and frame.distill[row] != BASELINE]
    frame.loc[others, difference] = [model.difference(row, control[0]) for row in others]
    if ranked:
        found = compare(model, control[0], ranked)
        frame.loc[ranked, low], frame.loc[ranked, high], frame.loc[ranked, p] = found.low, found.high, found.p


def _with_settings(table: pd.DataFrame) -> pd.DataFrame:
    """Give what differs among the rows of a pair (its terms), and among rows of one method (its own), a column of its
    name; empty where it does not apply."""
    found: dict[str, dict] = {}
    for keys, column in ((["dataset", "student"], "terms"), (["dataset", "teacher", "student", "distill"], "own")):
        for _, rows in table.groupby(keys, sort=False):
            parsed = {text: json.loads(text) for text in rows[column].unique()}
            for name in differing(list(parsed.values())):
                found.setdefault(name, {}).update({index: parsed[text].get(name) for index, text in rows[column].items()})
    return table.assign(**{name: pd.Series(values, dtype=object).reindex(table.index) for name, values in found.items()})
