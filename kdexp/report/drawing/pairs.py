"""Figures of what holds across the pairs of a paper: the comparison matrix, gains over all pairs, methods x pairs."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from kdexp.report.comparing.across import LEVEL, against
from kdexp.report.comparing.paper import baseline, every_two_of, gains, means, names
from kdexp.report.comparing.table import is_percent
from kdexp.report.drawing.style import GREY, beside_edge, ink, new_figure, style
from kdexp.report.showing import labels
from kdexp.report.showing.labels import probability
from kdexp.report.showing.overall import sorted_by_gain


def matrix(paper: pd.DataFrame) -> Figure:
    """Each method (row) against each (column): mean difference over the pairs both have, won-tied-lost, p after Holm's correction;
    bold if it is below 5 %. The highest mean gain comes first. After Ismail-Fawaz et al. 2023, arXiv:2305.11921."""
    order, found = sorted_by_gain(paper), every_two_of(paper)
    size = max(3.2, 0.9 + 0.62 * len(order))
    figure = Figure(figsize=(size * 1.25, size))
    axes = figure.subplots()
    rows = {name: against(found, name).set_index("first") for name in order}
    values = pd.DataFrame({name: -rows[name].difference for name in order}, index=order).T  # row - column
    far = float(np.nanpercentile(values.abs(), 75)) or 1.0
    image = axes.imshow(values, vmin=-far, vmax=far, cmap="PuOr")
    for (row, column), value in np.ndenumerate(values.to_numpy()):
        if np.isfinite(value):
            duel = rows[order[row]].loc[order[column]]
            text = f"{value:+.2f}\n{duel.losses}-{duel.ties}-{duel.wins}\n{_p(duel.holm)}"
            weight = "bold" if duel.holm < LEVEL else "normal"
            axes.text(column, row, text, **ink(image, value), fontsize=6, weight=weight)
    mean = dict(zip(order, values[baseline(paper)])) | {baseline(paper): 0.0}
    ticks = [f"{name}\n{mean[name]:+.2f}" if np.isfinite(mean[name]) else name for name in order]
    axes.set_yticks(range(len(order)), ticks)
    axes.set_xticks(range(len(order)), order)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(f"{_title(paper)}: row - column, won-tied-lost, p after Holm; {_tie(paper)}", loc="left")
    return figure


def _p(holm: float) -> str:
    text = probability(holm)
    return f"p {text}" if text.startswith("<") else f"p={text}" if text else ""


def over_pairs(paper: pd.DataFrame) -> Figure:
    """The gain of each method: a point for each pair, the mean, and its 95 % t interval over the pairs. Outliers are marked at
    the edge with their value."""
    gained = gains(paper)
    order = [name for name in sorted_by_gain(paper) if name != baseline(paper)]
    found = against(every_two_of(paper), baseline(paper)).set_index("first")
    figure, axes = new_figure(height=1.0 + 0.34 * len(order))
    low, high = _window(gained)
    kinds = paper.drop_duplicates("method").set_index("method").distill
    for position, name in enumerate(order):
        look, values = style(kinds[name], position), gained.loc[name].dropna()
        inside, mean, row = values[values.between(low, high)], values.mean(), found.loc[name]
        axes.plot(inside, [position - 0.18] * len(inside), "o", color=look["color"], markersize=4, alpha=0.6)
        if low <= mean <= high:
            ends = np.clip([row.low, row.high], low, high)
            axes.plot(ends, [position + 0.12] * 2, color=look["color"], linewidth=1.6, label=name)
            axes.plot(mean, position + 0.12, look["marker"], color=look["color"], markersize=7)
        for edge, out, mark in ((low, values[values < low], "<"), (high, values[values > high], ">")):
            if len(out):
                axes.plot(edge, position - 0.18, mark, color=look["color"], markersize=6, clip_on=False)
                text = f"{len(out)} of {len(values)}, to {out.min() if mark == '<' else out.max():+.1f}"
                beside_edge(axes, text, (edge, position - 0.18), 7 if mark == "<" else -7, fontsize=7)
    axes.axvline(0, color="black", linewidth=1)
    axes.axvspan(-paper.rope.iloc[0], paper.rope.iloc[0], color=GREY, alpha=0.2, linewidth=0)
    axes.set_xlim(low, high)
    axes.set_yticks(range(len(order)), order)
    axes.set_ylim(len(order) - 0.5, -0.6)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:+g}")
    axes.set(xlabel=f"gain over none, {_unit(paper)}; gray: {_tie(paper)}", title=_title(paper))
    return figure


def _window(gained: pd.DataFrame) -> tuple[float, float]:
    """The axis range of most points, so that a collapsed method does not flatten the others."""
    values = pd.Series(gained.to_numpy().ravel()).dropna()
    middle, wide = values.median(), (values - values.median()).abs().median()
    near = values[(values - middle).abs() <= max(5 * wide, 1e-9)]
    low, high = min(near.min(), 0), max(near.max(), 0)
    return low - 0.08 * (high - low or 1), high + 0.08 * (high - low or 1)


def heat_map(paper: pd.DataFrame) -> Figure:
    """The gain of each method (row, the highest mean first) on each pair; crossed out if it was not run or is incomplete."""
    gained = gains(paper)
    gained = gained.loc[[name for name in sorted_by_gain(paper) if name in gained.index]]
    figure = Figure(figsize=(1.8 + 0.75 * gained.shape[1] + 0.8, 1.3 + 0.34 * len(gained)))
    axes = figure.subplots()
    far = float(np.nanpercentile(gained.abs(), 75)) or 1.0
    image = axes.imshow(gained, vmin=-far, vmax=far, cmap="PuOr", aspect="auto")
    for (row, column), value in np.ndenumerate(gained.to_numpy()):
        known = np.isfinite(value)
        look = ink(image, value) if known else ink(image, 0) | {"color": GREY}
        axes.text(column, row, f"{value:+.1f}" if known else "×", fontsize=7, **look)
    axes.set_yticks(range(len(gained)), gained.index)
    axes.set_xticks(range(gained.shape[1]), [name.replace(" -> ", "\n") for name in names(paper)], fontsize=7)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, label=f"gain over none, {_unit(paper)}", extend="both")
    axes.set_title(_title(paper))
    return figure


def _title(paper: pd.DataFrame) -> str:
    return f"{paper.dataset.iloc[0]}, {means(paper).shape[1]} pairs"


def _unit(paper: pd.DataFrame) -> str:
    metric = paper.metric.iloc[0]
    return "points" if is_percent(metric) else metric


def _tie(paper: pd.DataFrame) -> str:
    return f"a tie is at most {labels.amount(paper.rope.iloc[0], paper.metric.iloc[0])}"
