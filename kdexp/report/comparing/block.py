"""One block of the table: the methods of a pair in one setting, a row for each, and what can be claimed about it."""

import json
import re
from collections import Counter
from functools import cache
from statistics import fmean

import numpy as np

from kdexp import CONF
from kdexp.report.comparing.claims import compared
from kdexp.report.comparing.images import Right, over_images
from kdexp.report.reading.settings import BASELINE
from kdexp.report.reading.teachers import UNKNOWN

# what the runs of a row have in common
SAME = (
    *("dataset", "teacher", "student", "distill", "label", "note", "control"),
    *("shared_settings", "method_settings", "weights"),
)
ORDER = ("none", "kd", "fn", "nst", "at", "rkd", "sp", "od")  # papers' order within a year; others follow by name


def block(taught: list[dict], baseline: list[dict], sign: int, percent: bool, right: Right | None) -> list[dict]:
    """The rows of one block: their numbers, then the results of the comparisons. sign: -1 if lower is better. percent: the
    numbers are accuracies. right: see kdexp/report/comparing/images.py."""
    expected = _seeds(taught or baseline)
    shared = [run for run in baseline if run["unit"] in expected]
    more = [run["value"] for run in baseline if shared and run["unit"] not in expected]  # seeds that no method has
    baseline = shared or baseline
    by_row: dict[tuple, list[dict]] = {}
    for run in [*baseline, *taught]:
        by_row.setdefault((rank(run["distill"]), run["method_settings"]), []).append(run)
    cells, rows = [], []
    groups = [group for _, group in sorted(by_row.items(), key=lambda item: (item[0][0], _values(item[0][1])))]
    for group in groups:
        seeds = expected if shared or group[0]["teacher"] else _seeds(baseline)
        cells.append(_cells(group, seeds))
        rows.append(_row(group, seeds, cells[-1]))
    units = list(dict.fromkeys(unit for row in cells for unit in row))
    values = np.array([[row.get(unit, np.nan) for unit in units] for row in cells])
    compared(rows, values, np.array([value for value in more if np.isfinite(value)]), sign, percent)
    over_images(rows, groups, right)
    return rows


def natural(value) -> tuple:
    """Sort key: numbers by size, then words."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return (0, value, "") if number else (1, 0, str(value))


def _values(own: str) -> list[tuple]:
    return [natural(value) for _, value in sorted(json.loads(own).items())]


def rank(name: str) -> tuple:
    """Sort key: methods as papers list them, the baseline first, then by year."""
    return (year(name), ORDER.index(name) if name in ORDER else len(ORDER), name)


@cache
def year(distill: str) -> int:
    """The year of a method's paper, from the first line of its yaml; 0 for the baseline, 9999 if there is none."""
    file = CONF / "distill" / f"{distill}.yaml"
    if distill == BASELINE or not file.exists():
        return 0 if distill == BASELINE else 9999
    number = re.search(r"\b(?:19|20)\d\d\b", file.read_text(encoding="utf-8").splitlines()[0])
    return int(number.group()) if number else 9999


def _seeds(runs: list[dict]) -> dict[str, set]:
    """Unit -> the seeds of all runs there."""
    seeds: dict[str, set] = {}
    for run in runs:
        seeds.setdefault(run["unit"], set()).add(run["seed"])
    return seeds


def _cells(group: list[dict], expected: dict[str, set]) -> dict[str, float]:
    """Unit -> mean over its seeds; NaN unless every expected seed has a value."""
    known: dict[str, dict] = {unit: {} for unit in expected}
    for run in group:
        if run["unit"] in known and np.isfinite(run["value"]):
            known[run["unit"]][run["seed"]] = run["value"]
    whole = lambda unit: known[unit].keys() >= expected[unit]
    return {unit: fmean(values.values()) if whole(unit) else np.nan for unit, values in known.items()}


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
    known = lambda run: run["taught_by"] not in ("", UNKNOWN)
    taught = {run["taught_by"] if known(run) else run["teacher_acc"]: run["teacher_acc"] for run in group}
    accuracies = sorted({score for score in taught.values() if np.isfinite(score)})
    return {
        **{key: group[0][key] for key in SAME},
        "variant": next((run["variant"] for run in group if run["variant"]), ""),
        "words": next((run["words"] for run in group if run["variant"]), "[]"),
        "n": len(there),
        "mean": there.mean() if len(there) else np.nan,
        "std": there.std(ddof=1) if len(there) > 1 else np.nan,
        "of": len(cells),
        "state": f"{len(there)} of {len(cells)} ({words})" if holes else str(len(there)),
        "ranked": not holes,
        "teacher_acc": accuracies[0] if len(accuracies) == 1 else np.nan,
        "teacher_accs": ", ".join(f"{score:.2f}" for score in accuracies),
        "replaced": any(run["replaced"] for run in group),
        "untraced": any(run["taught_by"] == UNKNOWN for run in group),
        "wanted": _listed(set().union(*expected.values())),
        "lacking": _listed({seed for _, seed in lacking}),
    }


def _listed(seeds: set) -> str:
    return ",".join(str(seed) for seed in sorted(seeds))
