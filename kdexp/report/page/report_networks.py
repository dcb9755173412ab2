"""The page's section on what a pair's networks know: calibration and fidelity, captioned figures, and what is missing."""

import pandas as pd

from kdexp.report.comparing.networks import teachers
from kdexp.report.comparing.table import is_percent
from kdexp.report.drawing.style import labelled
from kdexp.report.page.report_runs import plain
from kdexp.report.showing import labels

COLUMNS = {
    "ece": "ECE, %",
    "brier": "Brier",
    "nll": "NLL",
    "kl_teacher": "KL, T = 1",
    "kl_teacher_t4": "KL, T = 4",
    "agreement": "agree, %",
    "agreement_wrong": "if it errs, %",
    "agreement_wrong_chance": "by chance, %",
    "test_acc_best_val": "accuracy, best val., %",
}
CALIBRATION = "ECE is how far confidence and accuracy are apart, in 15 bins; the Brier score and NLL are lower for better probabilities."
FIDELITY = (
    "KL is the divergence from the teacher's probabilities to the student's. Agree: both name the same class. If it errs: the same "
    "among the images that the teacher gets wrong. By chance: what another image of the same label would give there; more than that "
    "means the student copies the teacher."
)
CAPTIONS = {
    "reliability": "Reliability diagrams. Bars above the line: the network is underconfident; below: "
    "overconfident. Images of all seeds are pooled; pale bars have fewer than 10.",
    "disagreements": "The most frequent disagreements with the teacher, as teacher's class → student's class, counted per 1,000 "
    "test images. Ordered by the median over the methods.",
    "correlations": "How alike the logits of two classes are (Pearson's correlation over the test images), student minus teacher. "
    "Blue: more alike for the student than for its teacher; white: the same. Mean over seeds.",
    "attention": "Where the networks look: squared activations averaged over channels, each map scaled from black to its own "
    "maximum. First seed; the first test images of six classes, none picked by hand.",
}


def of_pair(rows: pd.DataFrame, runs: pd.DataFrame, images: dict[str, str], lacking: dict[str, list[str]]) -> dict:
    """The data for report.html. images: figures as data URIs by name. lacking: see `figures.Drawn`."""
    place = labels.place(rows)
    if place not in lacking:  # nothing was drawn: published numbers come without networks
        return {"figures": []}
    columns, table, unknown = _numbers(labelled(rows, runs), runs, labels.teacher_of(rows))
    names = {f"{name}_{place}": caption for name, caption in CAPTIONS.items()}
    return {
        "figures": [(name, images[name], caption) for name, caption in names.items() if name in images],
        "columns": columns,
        "rows": table,
        "said": [*_said(columns), *unknown, *lacking.get(place, [])],
    }


def _numbers(
    finished: pd.DataFrame, runs: pd.DataFrame, teacher: str
) -> tuple[list[str], list[list[tuple]], list[str]]:
    """(column heads, rows of (text, value), sentences on what the records lack). The teacher comes first."""
    own = runs[runs.folder.isin(teachers(finished, runs).values())]
    both = pd.concat([own.assign(row=f"teacher {teacher}"), finished])
    there = [key for key in COLUMNS if key in both and both[key].notna().any()]
    lines, unknown = [], []
    for name, group in both.groupby("row", sort=False):
        if "ece" not in there or group.ece.isna().all():
            unknown.append(name)
        else:
            lines.append([(name, None), *(_cell(group[key].dropna(), key) for key in there)])
    why = "they were trained before kdexp recorded calibration and fidelity"
    said = [f"Not in this table, because {why}: {labels.listed(unknown)}."] if unknown else []
    return ["", *(COLUMNS[key] for key in there)], lines, said


def _cell(values: pd.Series, metric: str) -> tuple:
    """(mean ± standard deviation, mean): one decimal for percentages, three for the rest."""
    if values.empty:
        return "", None
    numbers = [values.mean(), values.std()][: len(values)]
    return " ± ".join(f"{value:.{1 if is_percent(metric) else 3}f}" for value in numbers), plain(values.mean())


def _said(columns: list[str]) -> list[str]:
    known = {COLUMNS["ece"]: CALIBRATION, COLUMNS["agreement"]: FIDELITY}
    return [sentence for column, sentence in known.items() if column in columns]
