"""Figures for print: every function takes frames and returns a matplotlib Figure.

Colours are Okabe & Ito's (2008), which colour-blind readers tell apart; each method has one colour, marker and line style
in all figures, so that they read in grey as well.
"""

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis import words
from analysis.agreement import agreement, agreement_per_class, gain_per_class, labels_of
from analysis.table import BASELINE, ORDER

COLOURS = ("#000000", "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#8C6D31")
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
    """Colour, marker and line of a method; methods beyond the seven take turns."""
    index = ORDER.index(distill) if distill in ORDER else len(ORDER) + position
    number = index % len(COLOURS)
    return {
        "color": COLOURS[number],
        "marker": MARKERS[number],
        "linestyle": LINES[(number + index // len(COLOURS)) % len(LINES)],
    }


def labelled(rows: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """The finished runs of a block, in the order of its rows, with the name of their row as `row`."""
    first = rows.iloc[0]
    mine = runs[(runs.dataset == first.dataset) & (runs.student == first.student) & (runs.terms == first.terms)]
    mine = mine[mine.teacher.isin([words.teacher_of(rows), ""]) & (mine.status == "done")]
    names = {(row.distill, row.own): words.name(row, rows) for _, row in rows.iterrows()}
    order = list(dict.fromkeys(names.values()))
    mine = mine.assign(row=[names.get((run.distill, run.own), run.label) for run in mine.itertuples()])
    return mine.sort_values(
        "row", key=lambda row: row.map({name: index for index, name in enumerate(order)}), kind="stable"
    )


def _figure(width: float = 6.3, height: float = 3.4) -> tuple[Figure, matplotlib.axes.Axes]:
    figure = Figure(figsize=(width, height))
    return figure, figure.add_subplot()


def learning_curves(rows: pd.DataFrame, runs: pd.DataFrame, epochs: pd.DataFrame) -> Figure:
    """Test accuracy of each method after each epoch: mean of the seeds, band from the lowest to the highest. Beside it the
    last third, at a scale that shows the methods near the median one."""
    figure = Figure(figsize=(7.2, 3.2))
    axes = figure.subplots(1, 2, width_ratios=(3, 2))
    mine = labelled(rows, runs)
    values = epochs.merge(mine[["row", "distill"]], left_on="run", right_index=True)
    seeds = values.groupby(["row", "epoch"]).test_acc.agg(["mean", "min", "max"])
    for position, name in enumerate(mine.row.unique()):
        if name not in seeds.index:
            continue
        some, look = seeds.loc[name], style(mine.distill[mine.row == name].iloc[0], position)
        for part in axes:
            part.plot(some["mean"], label=name, linewidth=1.4, **look, markersize=4, markevery=(position * 0.012, 0.12))
            part.fill_between(some.index, some["min"], some["max"], color=look["color"], alpha=0.12, linewidth=0)
    for part in axes:
        _lines(part.axhline, rows, baseline=False)
        part.set_xlabel("epoch")
        part.xaxis.get_major_locator().set_params(integer=True)
        part.margins(x=0.01)
    late = seeds[seeds.index.get_level_values("epoch") > values.epoch.max() * 2 / 3]
    last = late[late.index.get_level_values("row").isin(_near_rows(late))]
    if len(last):
        axes[1].set_xlim(last.index.get_level_values("epoch").min(), values.epoch.max())
        axes[1].set_ylim(*_padded(pd.concat([last["min"], last["max"], rows.teacher_acc.dropna()])))
    axes[0].set(ylabel="test accuracy, %", title=words.heading(rows).rpartition("   ")[0])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    return figure


def _near_rows(late: pd.DataFrame) -> list[str]:
    means = late["mean"].groupby(level="row").mean()
    return list(means[_near(means)].index)


def _padded(values: pd.Series) -> tuple[float, float]:
    margin = 0.05 * (values.max() - values.min()) or 1.0
    return values.min() - margin, values.max() + margin


def _lines(draw, rows: pd.DataFrame, baseline: bool = True) -> None:
    """The teacher's accuracy and the baseline's as lines."""
    teacher, base = rows.teacher_acc.mean(), rows.baseline.mean()
    if np.isfinite(teacher) and rows.metric.iloc[0] == "test_acc":
        draw(teacher, color=GREY, linestyle=(0, (6, 3)), linewidth=1, label=f"teacher {teacher:.2f}", zorder=0)
    if baseline and np.isfinite(base):
        draw(base, color="black", linewidth=1, label=f"none {base:.2f}", zorder=0)


def accuracy(rows: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Each method's mean with its seeds. The bar is the simultaneous 95 % interval of its gain, drawn from the
    baseline: where it does not touch the baseline's line, the method differs. What is far off stands at the edge."""
    shown = rows[(rows.n > 0)].reset_index(drop=True)
    figure, axes = _figure(height=0.9 + 0.32 * len(shown))
    metric, mine = rows.metric.iloc[0], labelled(rows, runs)
    low, high = _window(shown)
    for position, row in shown.iterrows():
        name, look = words.name(row, rows), style(row.distill, position)
        if not low <= row["mean"] <= high:
            edge, mark = (low, "<") if row["mean"] < low else (high, ">")
            axes.plot(edge, position, mark, color=look["color"], markersize=7, clip_on=False, label=name)
            axes.annotate(
                f"{row['mean']:.2f}",
                (edge, position),
                (8 if mark == "<" else -8, 0),
                textcoords="offset points",
                va="center",
                ha="left" if mark == "<" else "right",
            )
            continue
        if np.isfinite(row.low):
            axes.plot(
                [row.baseline + row.low, row.baseline + row.high],
                [position] * 2,
                color=look["color"],
                linewidth=1.6,
                solid_capstyle="butt",
                alpha=0.8,
            )
        seeds = pd.to_numeric(mine[metric][mine.row == name])
        axes.plot(seeds, [position + 0.22] * len(seeds), "|", color=look["color"], markersize=5)
        axes.plot(row["mean"], position, look["marker"], color=look["color"], markersize=7, label=name)
    axes.set_xlim(low, high)
    _lines(axes.axvline, rows)
    axes.set_yticks(
        range(len(shown)), [f"{words.name(row, rows)}{' *' if row.best else ''}" for _, row in shown.iterrows()]
    )
    axes.set_ylim(len(shown) - 0.5, -0.6)
    axes.set(xlabel=words.measured(metric), title=words.heading(rows).rpartition("   ")[0])
    lines = [line for line in axes.get_lines() if line.get_label().startswith(("teacher ", "none "))]
    figure.legend(handles=lines, loc="outside lower center", ncols=2)
    return figure


def _window(rows: pd.DataFrame) -> tuple[float, float]:
    """The range that shows the methods near the median one with their intervals, the baseline and the teacher."""
    near = rows[_near(rows["mean"])]
    sure = near[~near.wide]
    edges = [near["mean"], sure.baseline + sure.low, sure.baseline + sure.high, near.baseline]
    edges += [near["mean"] + near["std"].fillna(0), near["mean"] - near["std"].fillna(0)]
    if rows.metric.iloc[0] == "test_acc":
        edges.append(near.teacher_acc)
    return _padded(pd.concat(edges).dropna())


def _near(values: pd.Series) -> pd.Series:
    """All but what lies eight times as far from the median as the typical value does."""
    distance = (values - values.median()).abs()
    return distance <= max(8 * distance.median(), 1e-9)


def gains(table: pd.DataFrame) -> Figure:
    """The gain of each method over none in every pair: a marker for each pair, its 95 % interval as a bar. What is far off
    stands at the edge with its value."""
    figure, axes = _figure()
    pairs = [rows for rows in words.pairs(table) if rows.gain.notna().any()]
    labels = list(dict.fromkeys(label for rows in pairs for label in rows.label[rows.distill != BASELINE]))
    every = pd.concat([rows[rows.gain.notna()] for rows in pairs])
    near = every[_near(every.gain)]
    bottom, top = min(near.low.min(), near.gain.min(), 0), max(near.high.max(), near.gain.max(), 0)
    margin = 0.08 * (top - bottom) or 1.0
    for number, rows in enumerate(pairs):
        some = rows[rows.gain.notna()]
        x = np.array([labels.index(label) for label in some.label]) + (number - (len(pairs) - 1) / 2) * min(
            0.12, 0.7 / len(pairs)
        )
        inside = some.gain.between(bottom, top).to_numpy()
        y = some.gain.where(inside)
        bars = np.nan_to_num(np.array([some.gain - some.low, some.high - some.gain]).clip(0)) * inside
        look = {"color": COLOURS[(number + 1) % 8], "markersize": 5, "linewidth": 1}
        axes.errorbar(x, y, bars, fmt=MARKERS[number % 8], label=" ".join(words.heading(rows).split("   ")[:2]), **look)
        for place, value, far in zip(x, some.gain, ~inside):
            if far:
                edge, mark = ((bottom, 8), "v") if value < bottom else ((top, -12), "^")
                axes.plot(place, edge[0], mark, color=look["color"], markersize=8)
                axes.annotate(
                    f"{value:+.1f}", (place, edge[0]), (0, edge[1]), textcoords="offset points", ha="center", fontsize=7
                )
    axes.axhline(0, color="black", linewidth=1)
    axes.set_ylim(bottom - margin, top + margin)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:+g}")
    axes.set_xticks(range(len(labels)), labels)
    axes.set(ylabel=f"gain over none, {'points' if words.is_percent(table.metric.iloc[0]) else table.metric.iloc[0]}")
    figure.legend(loc="outside lower center")
    return figure


def cost(rows: pd.DataFrame, runs: pd.DataFrame) -> Figure:
    """Accuracy against the time a run took, a marker for each run. Runs that trained side by side took the group's time,
    and say so on the axis."""
    figure, axes = _figure()
    mine, metric = labelled(rows, runs), rows.metric.iloc[0]
    far = ~_near(pd.to_numeric(mine[metric]))
    for position, name in enumerate(mine.row.unique()):
        some = mine[(mine.row == name) & ~far]
        look = style(mine.distill[mine.row == name].iloc[0], position) | {"linestyle": ""}
        axes.plot(pd.to_numeric(some.seconds), pd.to_numeric(some[metric]), label=name, markersize=5, **look)
    group = pd.to_numeric(mine.get("group_size", pd.Series(1, mine.index))).fillna(1)
    shared = "" if (group == 1).all() else " of the group a run trained in"
    out = f"; not shown: {far.sum()} runs far below or above" if far.any() else ""
    axes.set(
        xlabel=f"training time{shared}, s",
        ylabel=words.measured(metric),
        title=words.heading(rows).rpartition("   ")[0] + out,
    )
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def agreement_figure(rows: pd.DataFrame, runs: pd.DataFrame) -> Figure | None:
    """How many test images student and teacher give the same class: a marker for each run, the mean as a bar. None if the
    teacher's predictions are not among the records."""
    teachers = pd.concat([labelled(rows, runs), runs[(runs.teacher == "") & (runs.student == words.teacher_of(rows))]])
    found = agreement(teachers[~teachers.index.duplicated()])
    if found.empty:
        return None
    names = list(dict.fromkeys(found.row))
    figure, axes = _figure(height=0.9 + 0.3 * len(names))
    kinds = {words.name(row, rows): row.distill for _, row in rows.iterrows()}
    for position, name in enumerate(names):
        values, look = found.agreement[found.row == name], style(kinds.get(name, name), position)
        axes.plot([values.mean()] * 2, [position - 0.25, position + 0.25], color=look["color"], linewidth=2.5)
        axes.plot(
            values, [position] * len(values), look["marker"], color=look["color"], markersize=5, alpha=0.7, label=name
        )
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set(
        xlabel="test images that student and teacher give the same class, %",
        title=words.heading(rows).rpartition("   ")[0],
    )
    return figure


def per_class(values: pd.DataFrame, label: str, title: str) -> Figure:
    """Methods x classes as a map: gains (around 0) or agreement (from 0 to 100)."""
    figure, axes = _figure(height=0.9 + 0.28 * len(values))
    signed = float(np.nanmin(values)) < 0 or "gain" in label
    far = float(np.nanpercentile(values.abs(), 90)) or 1.0
    limits = {"vmin": -far, "vmax": far, "cmap": "PuOr"} if signed else {"vmin": 0, "vmax": 100, "cmap": "cividis"}
    image = axes.imshow(values, aspect="auto", interpolation="nearest", **limits)
    for (row, column), value in np.ndenumerate(values.to_numpy()) if values.shape[1] <= 20 else ():
        red, green, blue, _ = image.cmap(image.norm(value))
        dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
        axes.text(
            column,
            row,
            f"{value:{'+' if signed else ''}.0f}",
            ha="center",
            va="center",
            fontsize=7,
            color="white" if dark else "black",
        )
    axes.set_yticks(range(len(values)), values.index)
    step = 1 if values.shape[1] <= 20 else 10
    axes.set_xticks(range(0, values.shape[1], step), values.columns[::step])
    figure.colorbar(image, ax=axes, label=label, extend="both" if signed else "neither")
    axes.set(xlabel="class", title=title)
    axes.spines[:].set_visible(False)
    return figure


def draw(table: pd.DataFrame, runs: pd.DataFrame, epochs: pd.DataFrame, data: str | None = None) -> dict[str, Figure]:
    """Every figure of a table by the name of its file. data: the folder of the data sets, for gains per class."""
    figures = {}
    with matplotlib.rc_context(STYLE):
        for rows in words.pairs(table):
            mine = labelled(rows, runs)
            if mine.empty:
                continue
            place = words.place(rows)
            title = words.heading(rows).rpartition("   ")[0]
            figures[f"accuracy_{place}"] = accuracy(rows, runs)
            figures[f"curves_{place}"] = learning_curves(rows, runs, epochs)
            figures[f"cost_{place}"] = cost(rows, runs)
            figures[f"agreement_{place}"] = agreement_figure(rows, runs)
            classes = agreement_per_class(pd.concat([mine, runs[(runs.teacher == "") & ~runs.index.isin(mine.index)]]))
            if len(classes):
                figures[f"agreement_per_class_{place}"] = per_class(classes, "agreement with the teacher, %", title)
            gained = gain_per_class(mine, labels_of(mine.iloc[0], data)) if data else pd.DataFrame()
            if len(gained):
                figures[f"gain_per_class_{place}"] = per_class(gained, "gain over none, points", title)
        if any(rows.gain.notna().any() for rows in words.pairs(table)):
            figures["gains"] = gains(table)
    return {name: figure for name, figure in figures.items() if figure}


def save(figures: dict[str, Figure], folder: Path) -> None:
    """Each figure as PNG and SVG below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        for name, figure in figures.items():
            figure.savefig(folder / f"{name}.png", dpi=200)
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
