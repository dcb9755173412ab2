"""Published accuracies: kdexp/report/published.csv as a frame.

source, dataset, teacher (empty for label-only), student, method, top1 (percent), std, runs, statistic (last, best,
mean, median; empty if the source does not say), note. Label-only training is listed under the network's own name, whichever
role it has in the source, so a source has one baseline for each student. `ls` is KD with standardized logits; combined with
another method it is a suffix (dkd+ls). The numbers were collected from public READMEs and logs.
"""

import json
import re
from pathlib import Path

import pandas as pd

from kdexp.report.reading.settings import BASELINE

FILE = Path(__file__).parents[1] / "published.csv"
# names in the literature -> ours; others are matched by their label in lower case (SP+KD: sp+kd)
METHODS = {"fitnet": "fn", "fitnets": "fn", "hint": "fn", "ofd": "od", "overhaul": "od", "hkd": "kd", "st": "kd"}


def load() -> pd.DataFrame:
    """published.csv with `published_gain`: points over the same source's label-only run of that student; empty if the
    source has none, or several that differ."""
    rows = pd.read_csv(FILE, keep_default_na=False, na_values={"top1": [""], "std": [""], "runs": [""]})
    rows["method"] = rows.method.map(method)
    keys = ["source", "dataset", "student"]
    baselines = rows[rows.method == BASELINE].groupby(keys).top1.agg(["mean", "nunique"])
    own = rows[keys].merge(baselines[baselines["nunique"] == 1], left_on=keys, right_index=True, how="left")["mean"]
    rows["published_gain"] = (rows.top1 - own).where(rows.method != BASELINE)
    return rows


def method(name: str) -> str:
    """Normalizes a method's name in the literature, or a row's label, so that the two can be compared."""
    first, *rest = name.strip().lower().split("+")
    return "+".join([METHODS.get(first, first), *rest])


def as_runs(source: str) -> pd.DataFrame:
    """A published table as if its numbers were ours: one run each, seed 1, whose last epoch scored the published number.

    What published tables do not say (parameters, epochs, device) is the same for all runs; networks whose names begin with
    the same letters count as one family. Several numbers for one cell are averaged. Raises ValueError if there is no such
    source.
    """
    every = load()
    rows = every[every.source == source]
    if rows.empty:
        raise ValueError(
            f"--published {source}: no such source in {FILE.name}. There are: {', '.join(every.source.unique())}"
        )
    cells = rows.groupby(["dataset", "teacher", "student", "method"], sort=False).top1.mean().reset_index()
    alone = cells[cells.method == BASELINE].set_index(["dataset", "student"]).top1
    kind = lambda name, which: {f"{which}._target_": re.match("[a-z]*", name.lower()).group()} if name else {}
    shared = [json.dumps({"device": source, "precision": "", **kind(name, "model.student")}) for name in cells.student]
    method = [json.dumps(kind(name, "model.teacher")) for name in cells.teacher]
    upper = cells.method.where(cells.method == BASELINE, cells.method.str.upper())
    teacher = [alone.get(key, float("nan")) for key in zip(cells.dataset, cells.teacher)]
    return cells.rename(columns={"method": "distill", "top1": "test_acc"}).assign(
        **{"seed": 1, "status": "done", "label": upper, "note": "", "control": False, "variant": ""},
        **{"folder": f"({source})", "weights": "", "sha256": [{}] * len(cells)},
        **{"shared_settings": shared, "method_settings": method, "teacher_test_acc": teacher},
    )
