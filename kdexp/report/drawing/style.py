"""How all figures look, and what they share.

The colors are Okabe & Ito's (2008), which color-blind readers can tell apart. Each method has the same color, marker and line
style in all figures, so that they also work in grayscale.
"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from kdexp.report.comparing.block import ORDER
from kdexp.report.showing import labels

COLORS = ("#000000", "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#8C6D31")
MARKERS = "osD^vP*X"
LINES = ("-", "-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "legend.frameon": False,
    "svg.hashsalt": "kdexp",
    "figure.constrained_layout.use": True,
}
GREY = "#767676"


def style(distill: str, position: int) -> dict[str, Any]:
    """Color, marker and line style of a method; methods beyond the seven cycle through the styles."""
    index = ORDER.index(distill) if distill in ORDER else len(ORDER) + position
    number = index % len(COLORS)
    return {
        "color": COLORS[number],
        "marker": MARKERS[number],
        "linestyle": LINES[(number + index // len(COLORS)) % len(LINES)],
    }


def labelled(rows: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """The finished runs of a block, in the order of its rows, with the name of their row as `row`."""
    first = rows.iloc[0]
    same = runs.status == "done"
    for key in ("dataset", "student", "shared_settings"):
        same &= runs[key] == first[key]
    same &= runs.teacher.isin([labels.teacher_of(rows), ""]) & runs.weights.isin([rows.weights.max(), ""])
    names = {(row.distill, row.method_settings): labels.name(row, rows) for _, row in rows.iterrows()}
    place = {name: index for index, name in enumerate(dict.fromkeys(names.values()))}
    row = [names.get((run.distill, run.method_settings), run.label) for run in runs[same].itertuples()]
    return runs[same].assign(row=row).sort_values("row", key=lambda row: row.map(place), kind="stable")


def new_figure(height: float = 3.4) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.3, height))
    return figure, figure.add_subplot()


def beside_edge(axes: Axes, text: str, place: tuple[float, float], shift: float, **font) -> None:
    """Write what lies beyond the axis next to its mark, `shift` points to the right of it."""
    side = "left" if shift > 0 else "right"
    axes.annotate(text, place, (shift, 0), textcoords="offset points", va="center", ha=side, **font)


def reference_lines(draw, rows: pd.DataFrame, baseline: bool = True) -> None:
    """Draw the teacher's and the baseline's accuracy as lines."""
    teacher, base = labels.teacher_accuracy(rows), rows.baseline.mean()
    if np.isfinite(teacher) and rows.metric.iloc[0] == "test_acc":
        draw(teacher, color=GREY, linestyle=(0, (6, 3)), linewidth=1, label=f"teacher {teacher:.2f}", zorder=0)
    if baseline and np.isfinite(base):
        draw(base, color="black", linewidth=1, label=f"none {base:.2f}", zorder=0)


def close_to_most(values: pd.Series) -> pd.Series:
    """Mask of the values that are not eight times as far from the median as is typical."""
    distance = (values - values.median()).abs()
    return distance <= max(8 * distance.median(), 1e-9)


def ink(image: AxesImage, value: float) -> dict[str, Any]:
    """How to write into a cell of a heat map: white on dark colors."""
    red, green, blue, _ = image.to_rgba(np.asarray(value))
    dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
    return {"ha": "center", "va": "center", "color": "white" if dark else "black"}


def padded(values: pd.Series) -> tuple[float, float]:
    margin = 0.05 * (values.max() - values.min()) or 1.0
    return values.min() - margin, values.max() + margin
