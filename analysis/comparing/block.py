"""One block of the table, the methods of a pair in one setting: a row for each, and what can be claimed about it."""

import json
from collections import Counter
from statistics import fmean

import numpy as np

from analysis.comparing.comparisons import Fit, among_best, compare, fit, paired_p
from analysis.comparing.multivariate_t import smallest_difference
from analysis.reading.settings import BASELINE, KD

ORDER = ("none", "kd", "fn", "nst", "at", "rkd", "sp", "od")  # as papers list them; others follow by name


def block(taught: list[dict], baseline: list[dict], sign: int) -> list[dict]:
    """The rows of one block: their numbers, then what the comparisons say."""
    expected = _seeds(taught or baseline)
    shared = [run for run in baseline if run["unit"] in expected]
    baseline = shared or baseline  # its further seeds are no part of this comparison
    groups: dict[tuple, list[dict]] = {}
    for run in [*baseline, *taught]:
        groups.setdefault((_rank(run["distill"]), run["own"]), []).append(run)
    cells, rows = [], []
    for _, group in sorted(groups.items(), key=lambda item: (item[0][0], _values(item[0][1]))):
        seeds = expected if shared or group[0]["teacher"] else _seeds(baseline)
        cells.append(_cells(group, seeds))
        rows.append(_row(group, seeds, cells[-1]))
    units = list(dict.fromkeys(unit for found in cells for unit in found))
    _compared(rows, np.array([[found.get(unit, np.nan) for unit in units] for found in cells]), sign)
    return rows


def natural(value) -> tuple:
    """A key that sorts numbers by size, before words."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return (0, value, "") if number else (1, 0, str(value))


def _values(own: str) -> list[tuple]:
    return [natural(value) for _, value in sorted(json.loads(own).items())]


def _rank(name: str) -> tuple:
    return (ORDER.index(name) if name in ORDER else len(ORDER), name)


def _seeds(runs: list[dict]) -> dict[str, set]:
    """Unit -> the seeds that any run has there."""
    seeds: dict[str, set] = {}
    for run in runs:
        seeds.setdefault(run["unit"], set()).add(run["seed"])
    return seeds


def _cells(group: list[dict], expected: dict[str, set]) -> dict[str, float]:
    """Unit -> mean over its seeds; NaN unless all that are expected have a value."""
    found: dict[str, dict] = {unit: {} for unit in expected}
    for run in group:
        if run["unit"] in found and np.isfinite(run["value"]):
            found[run["unit"]][run["seed"]] = run["value"]
    return {
        unit: fmean(values.values()) if values.keys() >= expected[unit] else np.nan for unit, values in found.items()
    }


def _row(group: list[dict], expected: dict[str, set], cells: dict[str, float]) -> dict:
    there = np.array([value for value in cells.values() if np.isfinite(value)])
    holes = [unit for unit, value in cells.items() if not np.isfinite(value)]
    status = {(run["unit"], run["seed"]): run["status"] for run in group if not np.isfinite(run["value"])}
    ran = {(run["unit"], run["seed"]) for run in group}
    wanted = {(unit, seed) for unit in holes for seed in expected[unit]}
    lacking = wanted - ran
    states = [
        min({status[cell] for cell in wanted & status.keys() if cell[0] == unit}, default="missing") for unit in holes
    ]
    reasons = Counter("without a value" if state == "done" else state for state in states)
    words = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
    accuracies = [run["teacher_acc"] for run in group if np.isfinite(run["teacher_acc"])]
    return {
        **{key: group[0][key] for key in ("dataset", "teacher", "student", "distill", "label", "note", "terms", "own")},
        "variant": next((run["variant"] for run in group if run["variant"]), ""),
        "n": len(there),
        "mean": there.mean() if len(there) else np.nan,
        "std": there.std(ddof=1) if len(there) > 1 else np.nan,
        "of": len(cells),
        "state": f"{len(there)} of {len(cells)} ({words})" if holes else str(len(there)),
        "ranked": not holes,
        "teacher_acc": fmean(accuracies) if accuracies else np.nan,
        "wanted": _listed(set().union(*expected.values())),
        "lacking": _listed({seed for _, seed in lacking}),
    }


def _listed(seeds: set) -> str:
    return ",".join(str(seed) for seed in sorted(seeds))


def _compared(rows: list[dict], values: np.ndarray, sign: int) -> None:
    """Add, in place, the comparisons of a block: with its baseline, with KD, with the best."""
    model = fit(values)
    methods = [index for index, row in enumerate(rows) if row["distill"] != BASELINE and row["ranked"]]
    baseline = [index for index, row in enumerate(rows) if row["distill"] == BASELINE]
    kd = [index for index in methods if rows[index]["distill"] == KD]
    best = dict(zip(methods, among_best(fit(sign * values) if sign < 0 else model, methods)))
    resolves = smallest_difference(model.sigma, len(methods) + 1, values.shape[1])
    for index, row in enumerate(rows):
        row |= {name: np.nan for name in ("baseline", "paired_p")}
        row |= {"test": "", "sigma": model.sigma, "df": model.df, "resolves": resolves}
        row |= {
            "wide": bool(model.wide[index]),
            "apart": bool(model.apart[index]),
            "best": bool(best.get(index, False)),
        }
    _against(rows, model, baseline, methods, ("gain", "low", "high", "p"))
    _against(
        rows,
        model,
        kd,
        [index for index in methods if index not in kd],
        ("over_kd", "over_kd_low", "over_kd_high", "over_kd_p"),
    )
    if len(baseline) != 1:
        return
    control = baseline[0]
    for index, row in enumerate(rows):
        row["baseline"] = rows[control]["mean"]
        if index in methods:
            wide = model.wide[index] or model.wide[control]
            row["test"] = "model" if model.together(index, control) else "Welch: wide" if wide else "Welch: unpaired"
            row["paired_p"] = paired_p(values[index], values[control])


def _against(rows: list[dict], model: Fit, control: list[int], ranked: list[int], names: tuple[str, ...]) -> None:
    """Add, in place, all methods' differences from the control (one row, or nothing is said), and interval and p of the
    ranked ones."""
    difference, low, high, p = names
    for index, row in enumerate(rows):
        row |= dict.fromkeys(names, np.nan)
        if len(control) == 1 and index != control[0] and row["distill"] != BASELINE:
            row[difference] = model.difference(index, control[0])
    if len(control) == 1 and ranked:
        found = compare(model, control[0], ranked)
        for position, index in enumerate(ranked):
            rows[index] |= {low: found.low[position], high: found.high[position], p: found.p[position]}
