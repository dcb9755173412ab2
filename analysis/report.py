"""The report page: one HTML file without a network, with tables, figures and every run.

What comes from records is escaped by jinja2 or set as text by report.js; the page's own policy lets no other script run.
"""

import base64
import hashlib
import io
import json
import time
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from matplotlib.figure import Figure

from analysis import published, words
from analysis.output import display, number, paragraph, probability
from analysis.style import STYLE
from kdexp import __version__
from kdexp.record.config import blocks as config_blocks

HERE = Path(__file__).parent
COLUMNS = (
    "dataset",
    "teacher",
    "student",
    "method",
    "seed",
    "status",
    "test_acc",
    "best_test_acc",
    "seconds",
    "device",
    "precision",
    "variant",
)
NUMERIC = ("seed", "test_acc", "best_test_acc", "seconds")
FACTS = (
    "started",
    "host",
    "device",
    "precision",
    "deterministic",
    "compile",
    "threads",
    "group_size",
    "seconds",
    "images_per_second",
    "peak_memory_mb",
    "params",
    "teacher_seed",
    "teacher_test_acc",
    "fingerprint",
    "student_sha256",
    "teacher_checkpoint_sha256",
    "git",
)
POINTS, LOG_LINES = 60, 20


def write(
    path: Path,
    table: pd.DataFrame,
    runs: pd.DataFrame,
    epochs: pd.DataFrame,
    figures: dict[str, Figure],
    left_out: list[str],
    against: bool = False,
) -> Path:
    """Write the page to `path` and return it. against: with published numbers beside ours."""
    page = Environment(loader=FileSystemLoader(HERE), autoescape=True).get_template("report.html")
    script = (HERE / "report.js").read_text(encoding="utf-8")
    drawn = {name: _image(figure) for name, figure in figures.items()}
    pairs = [_pair(rows, drawn) | _published(rows, against) for rows in words.pairs(table)]
    states = runs.status.value_counts()
    content = page.render(
        title=", ".join(dict.fromkeys(f"{pair['teacher']} -> {pair['student']}" for pair in pairs)) or "runs",
        measured=words.measured(table.metric.iloc[0]),
        counts=", ".join(f"{count} {state}" for state, count in states.items()),
        date=time.strftime("%Y-%m-%d %H:%M"),
        pairs=pairs,
        figures=[(name, drawn[name]) for name in drawn if name == "gains" and len(pairs) > 1],
        failed=[_failed(run) for run in runs[runs.status != "done"].head(200).itertuples()],
        left_out=left_out,
        run_columns=COLUMNS,
        version=__version__,
        css=Markup((HERE / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=Markup(_json(_data(runs, epochs))),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def _json(value) -> str:
    """JSON that ends no script element."""
    text = json.dumps(value, separators=(",", ":"), default=str, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _image(figure: Figure) -> str:
    """A figure as a data URI: an image cannot run anything."""
    file = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode()


def _pair(rows: pd.DataFrame, drawn: dict[str, str]) -> dict:
    metric = rows.metric.iloc[0]
    best, sentence = words.verdict(rows)
    shown = display(rows)
    plain = {
        "mean": rows["mean"],
        "std": rows["std"],
        "n": rows.n,
        "gain over none": rows.gain,
        "p": rows.p,
        "over KD": rows.over_kd,
    }
    shown["paired t, p"] = rows.paired_p.map(probability)
    shown["test"] = rows.test
    cells = [
        [(text, _plain(plain[column][index]) if column in plain else None) for column, text in row.items()]
        for index, row in shown.iterrows()
    ]
    mine = [(name, source) for name, source in drawn.items() if name.endswith(words.place(rows))]
    return {
        "dataset": rows.dataset[0],
        "teacher": words.teacher_of(rows),
        "student": rows.student[0],
        "best": "" if best is None else words.name(best, rows),
        "mean": "" if best is None else number(best["mean"], metric),
        "gain": "" if best is None else number(best.gain, metric, "+"),
        "interval": ""
        if best is None or pd.isna(best.low)
        else f"{number(best.low, metric, '+')} .. {number(best.high, metric, '+')}",
        "verdict": sentence,
        "heading": words.heading(rows),
        "circumstances": words.circumstances(rows),
        "columns": list(shown.columns),
        "rows": [{"best": bool(is_best), "cells": row} for is_best, row in zip(rows.best, cells)],
        "said": [*paragraph(rows), *words.commands(rows)],
        "figures": mine,
        "text": " ".join([words.heading(rows), words.circumstances(rows), *rows.label, *rows.distill]),
    }


def _published(rows: pd.DataFrame, against: bool) -> dict:
    found = published.beside(rows) if against else pd.DataFrame()
    if found.empty:
        return {}
    shown = published.text(found)
    lines = list(zip(found.same_recipe, shown.itertuples(index=False)))
    return {"published": {"columns": list(shown.columns), "rows": lines, "below": published.words_below(found)}}


def _plain(value):
    """A number of JSON, or None."""
    if isinstance(value, str) or value is None:
        return value or None
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    return None if not np.isfinite(value) else int(value) if float(value).is_integer() else float(value)


def _failed(run) -> dict:
    try:
        with open(Path(run.folder, "run.log"), "rb") as file:
            file.seek(max(0, file.seek(0, io.SEEK_END) - 8192))
            log = "\n".join(file.read().decode("utf-8", "replace").splitlines()[-LOG_LINES:])
    except OSError:
        log = "(no run.log)"
    name = f"{run.dataset} {run.teacher + ' -> ' if run.teacher else ''}{run.student} {run.label} seed {run.seed}"
    return {"status": run.status, "name": name, "error": _text(run.error), "folder": run.folder, "log": log}


def _text(value) -> str:
    return "" if value is None or (isinstance(value, float) and np.isnan(value)) else str(value)


def _data(runs: pd.DataFrame, epochs: pd.DataFrame) -> dict:
    """What report.js draws: each run's cells, curve, facts and configuration, whose blocks are stored once."""
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
            config = ["(config.yaml is gone)"]
        made = "\n".join(f"{name}: {_text(run[name])}" for name in facts if _text(run[name]))
        shown.append(
            {
                "cells": [_plain(run.get(name)) if name in NUMERIC else _text(run.get(name)) for name in COLUMNS],
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
    """At most about POINTS epochs, the last one among them."""
    if rows is None:
        return []
    some = rows.iloc[:: -max(1, len(rows) // POINTS)].iloc[::-1]
    return [[_plain(epoch), _plain(round(value, 2))] for epoch, value in zip(some.epoch, some.test_acc)]
