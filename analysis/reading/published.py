"""Published accuracies: analysis/published.csv as a frame.

source, dataset, teacher (empty for label-only), student, method, top1 (percent), std, runs, statistic (last, best,
mean, median; empty where the source does not say), note. Label-only training stands under the network's own name, whichever
role it plays in the source, so a source has one baseline for each student. `ls` is KD with standardized logits; on another
method it is written behind it (dkd+ls). Facts collected from public READMEs and logs.
"""

import json
import re
from pathlib import Path

import pandas as pd

from analysis.reading.settings import BASELINE

FILE = Path(__file__).parents[1] / "published.csv"
# names of the literature -> ours; others are compared by their label in lower case (SP+KD: sp+kd)
METHODS = {"fitnet": "fn", "fitnets": "fn", "hint": "fn", "ofd": "od", "overhaul": "od", "hkd": "kd", "st": "kd"}


def load() -> pd.DataFrame:
    """published.csv with `published_gain`: points over the same source's label-only run of that student; empty where the
    source has none, or several that differ."""
    rows = pd.read_csv(FILE, keep_default_na=False, na_values={"top1": [""], "std": [""], "runs": [""]})
    rows["method"] = rows.method.map(method)
    keys = ["source", "dataset", "student"]
    baselines = rows[rows.method == BASELINE].groupby(keys).top1.agg(["mean", "nunique"])
    own = rows[keys].merge(baselines[baselines["nunique"] == 1], left_on=keys, right_index=True, how="left")["mean"]
    rows["published_gain"] = (rows.top1 - own).where(rows.method != BASELINE)
    return rows


def method(name: str) -> str:
    """A method's name in the literature or the label of a row, as both sides are compared."""
    first, *rest = name.strip().lower().split("+")
    return "+".join([METHODS.get(first, first), *rest])


def as_runs(source: str) -> pd.DataFrame:
    """A published table as if its numbers were ours: one run each, seed 1, whose last epoch scored what was published.

    What no published table says (parameters, epochs, device) is the same in all of them; networks are of one family where their
    names begin with the same letters. Several numbers of one cell count as their mean. Raises ValueError for a source
    that is not there.
    """
    every = load()
    rows = every[every.source == source]
    if rows.empty:
        raise ValueError(
            f"--published {source}: not among the sources of {FILE.name}. There are: {', '.join(every.source.unique())}"
        )
    cells = rows.groupby(["dataset", "teacher", "student", "method"], sort=False).top1.mean().reset_index()
    alone = cells[cells.method == BASELINE].set_index(["dataset", "student"]).top1
    kind = lambda name, which: {f"{which}._target_": re.match("[a-z]*", name.lower()).group()} if name else {}
    shared = [json.dumps({"device": source, "precision": "", **kind(name, "model.student")}) for name in cells.student]
    method = [json.dumps(kind(name, "model.teacher")) for name in cells.teacher]
    upper = cells.method.where(cells.method == BASELINE, cells.method.str.upper())
    teacher = [alone.get(key, float("nan")) for key in zip(cells.dataset, cells.teacher)]
    return cells.rename(columns={"method": "distill", "top1": "test_acc"}).assign(
        **{
            "seed": 1,
            "status": "done",
            "label": upper,
            "note": "",
            "control": False,
            "variant": "",
            "folder": f"({source})",
            "epochs_sha256": "",
        },
        **{"shared_settings": shared, "method_settings": method, "teacher_test_acc": teacher},
    )
