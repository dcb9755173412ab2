"""Accuracies of a pair with their intervals, gains on all pairs, accuracy against time."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kdexp.report.comparing.table import is_percent
from kdexp.report.drawing.style import (
    COLORS,
    MARKERS,
    beside_edge,
    close_to_most,
    labelled,
    new_figure,
    padded,
    reference_lines,
    style,
)
from kdexp.report.reading.settings import BASELINE
from kdexp.report.showing import labels
from kdexp.screen import counted


def accuracy(rows: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Each method's mean and its seeds. The bar is the simultaneous 95 % interval of its gain, drawn from the baseline: if
    it does not touch the baseline's line, the method differs. Outliers are marked at the edge with their value."""
    shown = rows[(rows.n > 0)].reset_index(drop=True)
    figure, axes = new_figure(height=0.9 + 0.32 * len(shown))
    metric, finished = rows.metric.iloc[0], labelled(rows, runs)
    (low, high), beyond = _window(shown), []
    for position, row in shown.iterrows():
        name, look = labels.name(row, rows), style(row.distill, position)
        if not low <= row["mean"] <= high:
            edge, mark = (low, "<") if row["mean"] < low else (high, ">")
            axes.plot(edge, position, mark, color=look["color"], markersize=7, clip_on=False, label=name)
            beside_edge(axes, f"{row['mean']:.2f}", (edge, position), 8 if mark == "<" else -8)
            continue
        if np.isfinite(row.low):
            bar: dict[str, Any] = {"color": look["color"], "linewidth": 1.6, "solid_capstyle": "butt", "alpha": 0.8}
            axes.plot([row.baseline + row.low, row.baseline + row.high], [position] * 2, **bar)
        seeds = pd.to_numeric(finished[metric][finished.row == name])
        beyond += [f"{name} {labels.number(value, metric)}" for value in seeds if not low <= value <= high]
        axes.plot(seeds, [position + 0.22] * len(seeds), "|", color=look["color"], markersize=5)
        axes.plot(row["mean"], position, look["marker"], color=look["color"], markersize=7, label=name)
    axes.set_xlim(low, high)
    reference_lines(axes.axvline, rows)
    axes.set_yticks(
        range(len(shown)), [f"{labels.name(row, rows)}{' *' if row.best else ''}" for _, row in shown.iterrows()]
    )
    axes.set_ylim(len(shown) - 0.5, -0.6)
    outside = f"\nseeds beyond the axis: {', '.join(beyond)}" if beyond else ""
    axes.set(xlabel=labels.measured(metric) + outside, title=labels.title(rows))
    lines = [line for line in axes.get_lines() if str(line.get_label()).startswith(("teacher ", "none "))]
    figure.legend(handles=lines, loc="outside lower center", ncols=2)
    return figure


def _window(rows: pd.DataFrame) -> tuple[float, float]:
    """The axis range that shows the methods near the median with their intervals, the baseline and the teacher."""
    near = rows[close_to_most(rows["mean"])]
    sure = near[~near.wide]
    edges = [near["mean"], sure.baseline + sure.low, sure.baseline + sure.high, near.baseline]
    edges += [near["mean"] + near["std"].fillna(0), near["mean"] - near["std"].fillna(0)]
    if rows.metric.iloc[0] == "test_acc":
        edges.append(near.teacher_acc.astype(float))
    return padded(pd.concat(edges).dropna())


def gains(table: pd.DataFrame) -> Figure:
    """The gain of each method over none on every pair: a marker for each pair, its 95 % interval as a bar. Outliers are
    marked at the edge with their value."""
    figure, axes = new_figure()
    pairs = [rows for rows in labels.pairs(table) if rows.gain.notna().any()]
    methods = list(dict.fromkeys(label for rows in pairs for label in rows.label[rows.distill != BASELINE]))
    every = pd.concat([rows[rows.gain.notna()] for rows in pairs])
    near = every[close_to_most(every.gain)]
    reach = pd.concat([near.low, near.high, near.gain, pd.Series([0.0])]).astype(float)  # one run has no interval
    bottom, top = reach.min(), reach.max()
    margin = 0.08 * (top - bottom) or 1.0
    for number, rows in enumerate(pairs):
        gained, color = rows[rows.gain.notna()], COLORS[(number + 1) % 8]
        shift = (number - (len(pairs) - 1) / 2) * min(0.12, 0.7 / len(pairs))
        x = np.array([methods.index(label) for label in gained.label]) + shift
        inside = gained.gain.between(bottom, top).to_numpy()
        bars = np.nan_to_num(np.array([gained.gain - gained.low, gained.high - gained.gain]).clip(0)) * inside
        look: dict[str, Any] = {"fmt": MARKERS[number % 8], "color": color, "markersize": 5, "linewidth": 1}
        axes.errorbar(x, gained.gain.where(inside), bars, label=labels.title(rows).replace("   ", " "), **look)
        for place, value in zip(x[~inside], gained.gain[~inside]):
            edge, above, mark = (bottom, 8, "v") if value < bottom else (top, -12, "^")
            axes.plot(place, edge, mark, color=color, markersize=8)
            font: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "fontsize": 7}
            axes.annotate(f"{value:+.1f}", (place, edge), (0, above), **font)
    axes.axhline(0, color="black", linewidth=1)
    axes.set_ylim(bottom - margin, top + margin)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:+g}")
    axes.set_xticks(range(len(methods)), methods)
    axes.set(ylabel=f"gain over none, {'points' if is_percent(table.metric.iloc[0]) else table.metric.iloc[0]}")
    figure.legend(loc="outside lower center")
    return figure


def cost(rows: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Accuracy against the time a run took, a marker for each run. Runs trained side by side share the group's time; the
    axis label says so."""
    figure, axes = new_figure()
    finished, metric = labelled(rows, runs), rows.metric.iloc[0]
    far = ~close_to_most(pd.to_numeric(finished[metric]))
    for position, (name, seeds) in enumerate(finished.groupby("row", sort=False)):
        near, look = seeds[~far[seeds.index]], style(seeds.distill.iloc[0], position) | {"linestyle": ""}
        axes.plot(pd.to_numeric(near.seconds), pd.to_numeric(near[metric]), label=name, markersize=5, **look)
    group = pd.to_numeric(finished.get("group_size", pd.Series(1, finished.index))).fillna(1)
    shared = "" if (group == 1).all() else " of the group a run trained in"
    out = f"; not shown: {counted(far.sum(), 'run')} far below or above" if far.any() else ""
    axes.set(xlabel=f"training time{shared}, s", ylabel=labels.measured(metric), title=labels.title(rows) + out)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure
