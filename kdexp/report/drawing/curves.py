"""Learning curves."""

import pandas as pd
from matplotlib.figure import Figure

from kdexp.report.drawing.style import close_to_most, labelled, padded, reference_lines, style
from kdexp.report.showing import labels


def learning_curves(rows: pd.DataFrame, runs: pd.DataFrame, epochs: pd.DataFrame) -> Figure:
    """Test accuracy of each method after each epoch: mean over seeds, with a band from the lowest to the highest. The second
    panel zooms in on the last third of the epochs and the methods near the median."""
    figure = Figure(figsize=(7.2, 3.2))
    axes = figure.subplots(1, 2, width_ratios=(3, 2))
    finished = labelled(rows, runs)
    values = epochs.merge(finished[["row", "distill"]], left_on="run", right_index=True)
    seeds = values.groupby(["row", "epoch"]).test_acc.agg(["mean", "min", "max"])
    for position, (name, distill) in enumerate(finished.groupby("row", sort=False).distill.first().items()):
        if name not in seeds.index:
            continue
        curve, look = seeds.loc[name], style(distill, position)
        for part in axes:
            part.plot(
                curve["mean"], label=name, linewidth=1.4, **look, markersize=4, markevery=(position * 0.012, 0.12)
            )
            part.fill_between(curve.index, curve["min"], curve["max"], color=look["color"], alpha=0.12, linewidth=0)
    for part in axes:
        reference_lines(part.axhline, rows, baseline=False)
        part.set_xlabel("epoch")
        part.xaxis.get_major_locator().set_params(integer=True)
        part.margins(x=0.01)
    late = seeds[seeds.index.get_level_values("epoch") > values.epoch.max() * 2 / 3]
    means = late["mean"].groupby(level="row").mean()
    last = late[late.index.get_level_values("row").isin(means[close_to_most(means)].index)]
    if len(last):
        first, end = last.index.get_level_values("epoch").min(), values.epoch.max()
        axes[1].set_xlim(first - (first == end) / 2, end + (first == end) / 2)
        axes[1].set_ylim(*padded(pd.concat([last["min"], last["max"], rows.teacher_acc.dropna()])))
    axes[0].set(ylabel="test accuracy, %", title=labels.title(rows))
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
    return figure
