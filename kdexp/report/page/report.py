"""The report page: one self-contained HTML file with tables, figures and every run; it loads nothing from the network.

Text from records is escaped by jinja2 or inserted as text by report.js; the page's security policy blocks any other script.
"""

import base64
import hashlib
import io
import time
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import pandas as pd
from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from matplotlib.figure import Figure

from kdexp import __version__
from kdexp.report.drawing.figures import Drawn
from kdexp.report.drawing.style import STYLE
from kdexp.report.page import report_networks, report_overall
from kdexp.report.page.report_runs import COLUMNS, as_json, data, plain, text
from kdexp.report.showing import beside, findings, labels
from kdexp.report.showing.cautions import cautions
from kdexp.report.showing.labels import number, probability
from kdexp.report.showing.output import display, remarks
from kdexp.report.showing.recipes import sections

HERE = Path(__file__).parent
LOG_LINES = 20


def write(
    path: Path,
    table: pd.DataFrame,
    runs: pd.DataFrame,
    epochs: pd.DataFrame,
    drawn: Drawn,
    left_out: list[str],
    against: bool = False,
    papers: Sequence[pd.DataFrame] = (),
) -> Path:
    """Write the page to `path` and return it. against: compare with published numbers. papers: tables whose pairs are
    compared together, shown before the single pairs."""
    page = Environment(loader=FileSystemLoader(HERE), autoescape=True).get_template("report.html")
    script = (HERE / "report.js").read_text(encoding="utf-8")
    images = {name: _image(figure) for name, figure in drawn.figures.items()}
    pairs = [_pair(rows, runs, images, drawn.lacking) | _published(rows, against) for rows in labels.pairs(table)]
    over_pairs = report_overall.papers(papers, images)
    parts = [*pairs, *over_pairs, *(pair["networks"] for pair in pairs)]
    shown = [name for part in parts for name, *_ in part["figures"]]
    states = runs.status.value_counts()
    content = page.render(
        title=", ".join(dict.fromkeys(f"{pair['teacher']} -> {pair['student']}" for pair in pairs)) or "runs",
        measured=labels.measured(table.metric.iloc[0]),
        counts=", ".join(f"{count} {state}" for state, count in states.items()),
        date=time.strftime("%Y-%m-%d %H:%M"),
        pairs=pairs,
        papers=over_pairs,
        recipes=sections(table),
        figures=[item for item in images.items() if len(pairs) > 1 and item[0] not in shown],
        failed=[_failed(run) for run in runs[runs.status != "done"].head(200).itertuples()],
        left_out=left_out,
        run_columns=COLUMNS,
        version=__version__,
        css=Markup((HERE / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        data=Markup(as_json(data(runs, epochs))),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def _image(figure: Figure) -> str:
    """A figure as a data URI: an image cannot run scripts."""
    file = io.BytesIO()
    with matplotlib.rc_context(STYLE | {"svg.fonttype": "none"}):  # text drawn as outlines would double the page's size
        figure.savefig(file, format="svg", metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode()


def _pair(rows: pd.DataFrame, runs: pd.DataFrame, images: dict[str, str], lacking: dict[str, list[str]]) -> dict:
    metric = rows.metric.iloc[0]
    best, sentence = findings.verdict(rows)
    shown = display(rows)
    numbers = {"mean": rows["mean"], "std": rows["std"], "n": rows.n}
    numbers |= {"gain over none": rows.gain, "p": rows.p, "over KD": rows.over_kd}
    shown["paired t, p"] = rows.paired_p.map(probability)
    shown["test"] = rows.test
    cells = [
        [(text, plain(numbers[column][index]) if column in numbers else None) for column, text in row.items()]
        for index, row in shown.iterrows()
    ]
    networks = report_networks.of_pair(rows, runs, images, lacking)
    apart, place = {name for name, *_ in networks["figures"]}, labels.place(rows)
    figures = [(name, source) for name, source in images.items() if name.endswith(place) and name not in apart]
    return {
        "dataset": rows.dataset[0],
        "teacher": labels.teacher_of(rows),
        "student": rows.student[0],
        "best": "" if best is None else labels.name(best, rows),
        "mean": "" if best is None else number(best["mean"], metric),
        "gain": "" if best is None else number(best.gain, metric, "+"),
        "interval": "" if best is None or pd.isna(best.low) else labels.interval(best.low, best.high, metric),
        "cautions": cautions(rows),
        "verdict": sentence,
        "heading": labels.heading(rows),
        "circumstances": labels.circumstances(rows),
        "columns": list(shown.columns),
        "rows": [{"best": bool(is_best), "cells": row} for is_best, row in zip(rows.best, cells)],
        "said": [*remarks(rows), *findings.commands(rows)],
        "figures": figures,
        "networks": networks,
        "text": " ".join([labels.heading(rows), labels.circumstances(rows), *rows.label, *rows.distill]),
    }


def _published(rows: pd.DataFrame, against: bool) -> dict:
    cells = beside.beside(rows) if against else pd.DataFrame()
    if cells.empty:
        return {}
    shown = beside.text(cells)
    lines = list(zip(cells.same_recipe, shown.itertuples(index=False)))
    return {"published": {"columns": list(shown.columns), "rows": lines, "below": beside.words_below(cells)}}


def _failed(run) -> dict:
    try:
        with open(Path(run.folder, "run.log"), "rb") as file:
            file.seek(max(0, file.seek(0, io.SEEK_END) - 8192))
            log = "\n".join(file.read().decode("utf-8", "replace").splitlines()[-LOG_LINES:])
    except OSError:
        log = "(no run.log)"
    name = f"{run.dataset} {run.teacher + ' -> ' if run.teacher else ''}{run.student} {run.label} seed {run.seed}"
    return {"status": run.status, "name": name, "error": text(run.error), "folder": run.folder, "log": log}
