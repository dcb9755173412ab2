"""How all figures look, and what they share.

The colors are Okabe & Ito's (2008), which color-blind readers can tell apart. Each method has the same color, marker and line
style in all figures, so that they also work in grayscale.
"""

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

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


def style(distill: str, position: int) -> dict:
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
    mine = runs[
        (runs.dataset == first.dataset)
        & (runs.student == first.student)
        & (runs.shared_settings == first.shared_settings)
    ]
    mine = mine[mine.teacher.isin([labels.teacher_of(rows), ""]) & (mine.status == "done")]
    mine = mine[mine.weights.isin([rows.weights.max(), ""])]
    names = {(row.distill, row.method_settings): labels.name(row, rows) for _, row in rows.iterrows()}
    order = list(dict.fromkeys(names.values()))
    mine = mine.assign(row=[names.get((run.distill, run.method_settings), run.label) for run in mine.itertuples()])
    return mine.sort_values(
        "row", key=lambda row: row.map({name: index for index, name in enumerate(order)}), kind="stable"
    )


def new_figure(height: float = 3.4) -> tuple[Figure, matplotlib.axes.Axes]:
    figure = Figure(figsize=(6.3, height))
    return figure, figure.add_subplot()


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


def padded(values: pd.Series) -> tuple[float, float]:
    margin = 0.05 * (values.max() - values.min()) or 1.0
    return values.min() - margin, values.max() + margin
