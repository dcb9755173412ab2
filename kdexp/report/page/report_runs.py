"""The list of runs on the report page: the data that report.js shows for each."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from kdexp.record.config import blocks as config_blocks

COLUMNS = (
    *("dataset", "teacher", "student", "method", "seed", "status"),
    *("test_acc", "best_test_acc", "seconds", "device", "precision", "variant"),
)
NUMERIC = ("seed", "test_acc", "best_test_acc", "seconds")
FACTS = (
    *("started", "host", "device", "precision", "deterministic", "compile", "threads"),
    *("group_size", "seconds", "images_per_second", "peak_memory_mb", "params"),
    *("teacher_seed", "teacher_test_acc", "fingerprint", "student_sha256", "teacher_checkpoint_sha256", "git"),
)
POINTS = 60


def data(runs: pd.DataFrame, epochs: pd.DataFrame) -> dict:
    """The data for report.js: each run's cells, curve, facts and configuration. Equal blocks of config.yaml are stored once."""
    blocks: dict[str, int] = {}
    curves = dict(list(epochs.groupby("run")[["epoch", "test_acc"]])) if len(epochs) else {}
    facts = [
        name for name in (*FACTS, *sorted(column for column in runs if column.startswith("versions."))) if name in runs
    ]
    shown = []
    for index, run in zip(runs.index, runs.rename(columns={"label": "method"}).to_dict("records")):
        try:
            config = config_blocks(Path(run["folder"], "config.yaml").read_text(encoding="utf-8").rstrip())
        except (OSError, UnicodeDecodeError):
            config = ["(config.yaml is missing)"]
        made = "\n".join(f"{name}: {text(run[name])}" for name in facts if text(run[name]))
        shown.append(
            {
                "cells": [plain(run.get(name)) if name in NUMERIC else text(run.get(name)) for name in COLUMNS],
                "curve": _curve(curves.get(index)),
                "facts": made,
                "config": [blocks.setdefault(block, len(blocks)) for block in config],
                "folder": run["folder"],
            }
        )
    numeric = [name in NUMERIC for name in COLUMNS]
    decimals = {COLUMNS.index(name): 2 for name in ("test_acc", "best_test_acc", "seconds")}
    status = COLUMNS.index("status")
    return {"runs": shown, "blocks": list(blocks), "numeric": numeric, "decimals": decimals, "status": status}


def _curve(rows: pd.DataFrame | None) -> list:
    """At most about POINTS epochs, including the last one."""
    if rows is None:
        return []
    some = rows.iloc[:: -max(1, len(rows) // POINTS)].iloc[::-1]
    return [[plain(epoch), plain(round(value, 2))] for epoch, value in zip(some.epoch, some.test_acc)]


def plain(value):
    """A number that JSON can hold, or None."""
    if isinstance(value, str) or value is None:
        return value or None
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    return None if not np.isfinite(value) else int(value) if float(value).is_integer() else float(value)


def text(value) -> str:
    return "" if value is None or (isinstance(value, float) and np.isnan(value)) else str(value)


def as_json(value) -> str:
    """JSON that cannot close its script element."""
    text = json.dumps(value, separators=(",", ":"), default=str, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
