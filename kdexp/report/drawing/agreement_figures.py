"""Figures of where students and teachers agree, and of which classes gain."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kdexp.report.comparing.agreement import agreement
from kdexp.report.drawing.style import ink, labelled, new_figure, style
from kdexp.report.showing import labels


def agreement_figure(rows: pd.DataFrame, runs: pd.DataFrame) -> Figure | None:
    """The share of test images that student and teacher put in the same class: a marker for each run, the mean as a bar.
    None if the records do not include the teacher's predictions."""
    teachers = pd.concat([labelled(rows, runs), runs[(runs.teacher == "") & (runs.student == labels.teacher_of(rows))]])
    found = agreement(teachers[~teachers.index.duplicated()])
    if found.empty:
        return None
    names = list(dict.fromkeys(found.row))
    figure, axes = new_figure(height=0.9 + 0.3 * len(names))
    kinds = {labels.name(row, rows): row.distill for _, row in rows.iterrows()}
    for position, name in enumerate(names):
        values, look = found.agreement[found.row == name], style(kinds.get(name, name), position)
        axes.plot([values.mean()] * 2, [position - 0.25, position + 0.25], color=look["color"], linewidth=2.5)
        look |= {"linestyle": "", "markersize": 5, "alpha": 0.7}
        axes.plot(values, [position] * len(values), label=name, **look)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set(xlabel="test images that student and teacher put in the same class, %", title=labels.title(rows))
    return figure


def per_class(values: pd.DataFrame, label: str, title: str) -> Figure:
    """Methods x classes as a heat map: gains (around 0) or agreement (from 0 to 100)."""
    figure, axes = new_figure(height=0.9 + 0.28 * len(values))
    signed = float(np.nanmin(values)) < 0 or "gain" in label
    far = float(np.nanpercentile(values.abs(), 90)) or 1.0
    limits: dict[str, Any] = (
        {"vmin": -far, "vmax": far, "cmap": "PuOr"} if signed else {"vmin": 0, "vmax": 100, "cmap": "cividis"}
    )
    image = axes.imshow(values, aspect="auto", interpolation="nearest", **limits)
    for (row, column), value in np.ndenumerate(values.to_numpy()) if values.shape[1] <= 20 else ():
        axes.text(column, row, f"{value:{'+' if signed else ''}.0f}", fontsize=7, **ink(image, value))
    axes.set_yticks(range(len(values)), values.index)
    step = 1 if values.shape[1] <= 20 else 10
    axes.set_xticks(range(0, values.shape[1], step), values.columns[::step])
    figure.colorbar(image, ax=axes, label=label, extend="both" if signed else "neither")
    axes.set(xlabel="class", title=title)
    axes.spines[:].set_visible(False)
    return figure
