"""Our gains against published ones: the figure that shows whether kdexp reproduces the literature."""

import pandas as pd
from matplotlib.figure import Figure

from kdexp.report.drawing.style import GREY, MARKERS, new_figure, padded, style
from kdexp.report.reading.published import method
from kdexp.report.reading.settings import BASELINE


def gains_against(found: pd.DataFrame) -> Figure | None:
    """A point for each cell of `beside`: x is the published gain, y is ours with its 95 % interval; on the diagonal both are
    equal. One color per method, one marker per source, hollow if the recipes differ. None if they share no cell."""
    known = found[found.gain.notna() & found.published_gain.notna() & (found.method != BASELINE)]
    if known.empty:
        return None
    figure, axes = new_figure(height=4.6)
    sources = list(dict.fromkeys(known.source))
    colors = {name: style(method(name), index)["color"] for index, name in enumerate(dict.fromkeys(known.method))}
    low, high = padded(pd.concat([known.gain, known.published_gain]).astype(float))
    for row in known.itertuples():
        filled = {"markerfacecolor": colors[row.method] if row.same_recipe else "none"}
        look = {
            "color": colors[row.method],
            "marker": MARKERS[sources.index(row.source) % len(MARKERS)],
            "markersize": 6,
            **filled,
        }
        bars = [[row.gain - row.low], [row.high - row.gain]] if pd.notna(row.low) else None
        axes.errorbar(row.published_gain, row.gain, bars, elinewidth=0.8, alpha=0.85, **look)
    axes.axline((0, 0), slope=1, color=GREY, linewidth=1, zorder=0)
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    for name, color in colors.items():
        axes.plot([], [], "s", color=color, label=name)
    for index, name in enumerate(sources):
        axes.plot([], [], MARKERS[index % len(MARKERS)], color=GREY, markerfacecolor="none", label=name)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:+g}")
    axes.set(xlabel="published gain over none, points", ylabel="our gain over none, points, 95 % interval")
    axes.set_title("filled: the same recipe; on the line: the same gain")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure
