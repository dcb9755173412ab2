"""Figures for print: every function takes frames and returns a matplotlib Figure; `draw` makes all figures of a table."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from kdexp.report.comparing.agreement import agreement_per_class, gain_per_class, labels_of
from kdexp.report.drawing import networks, pairs
from kdexp.report.drawing.accuracies import accuracy, cost, gains
from kdexp.report.drawing.agreement_figures import agreement_figure, per_class
from kdexp.report.drawing.curves import learning_curves
from kdexp.report.drawing.literature import gains_against
from kdexp.report.drawing.style import STYLE, labelled
from kdexp.report.showing import labels
from kdexp.report.showing.overall import many


class Drawn(NamedTuple):
    """figures: by file name. lacking: for each pair (`labels.place`), sentences on what could not be drawn."""

    figures: dict[str, Figure]
    lacking: dict[str, list[str]]


def draw(
    table: pd.DataFrame,
    runs: pd.DataFrame,
    epochs: pd.DataFrame,
    data: str | None = None,
    papers: Sequence[pd.DataFrame] = (),
    published: pd.DataFrame | None = None,
) -> Drawn:
    """Every figure of a table. data: the folder of the data sets, for gains per class and attention maps. papers: tables
    whose pairs are compared together. published: our cells next to published ones."""
    figures: dict[str, Figure | None] = {}
    lacking: dict[str, list[str]] = {}
    with matplotlib.rc_context(STYLE):
        for rows in labels.blocks(table) if len(epochs) else ():  # a published table has no epochs
            place = labels.place(rows)
            if not labels.teacher_of(rows):
                figures[f"curves_{place}"] = learning_curves(rows, runs, epochs) if rows.n[0] else None
                continue
            drawn, lacking[place] = of_pair(rows, runs, epochs, data)
            figures |= {f"{name}_{place}": figure for name, figure in drawn.items()}
        if any(rows.gain.notna().any() for rows in labels.pairs(table)):
            figures["gains"] = gains(table)
        if published is not None:
            figures["gains_against_published"] = gains_against(published)
        for number, paper in enumerate(papers):
            drawn, place = of_pairs(paper), f"{paper.dataset.iloc[0]}_{number}"
            figures |= {f"{name}_{place}": figure for name, figure in drawn.items()}
    return Drawn({name: figure for name, figure in figures.items() if figure}, lacking)


def of_pair(
    rows: pd.DataFrame, runs: pd.DataFrame, epochs: pd.DataFrame, data: str | None
) -> tuple[dict[str, Figure | None], list[str]]:
    """(the figures of one pair by name, sentences on what could not be drawn)."""
    finished, title = labelled(rows, runs), labels.title(rows)
    if finished.empty:
        return {}, []
    figures: dict[str, Figure | None] = {
        "accuracy": accuracy(rows, runs),
        "curves": learning_curves(rows, runs, epochs),
        "cost": cost(rows, runs),
        "agreement": agreement_figure(rows, runs),
    }
    classes = agreement_per_class(pd.concat([finished, runs[(runs.teacher == "") & ~runs.index.isin(finished.index)]]))
    if len(classes):
        figures["agreement_per_class"] = per_class(classes, "agreement with the teacher, %", title)
    more, lacking = networks.of_pair(rows, runs, data)
    try:
        gained = gain_per_class(finished, labels_of(finished.iloc[0], data)) if data else pd.DataFrame()
    except ValueError as error:
        gained, lacking = pd.DataFrame(), [f"No gains per class: {error}", *lacking]
    if len(gained):
        figures["gain_per_class"] = per_class(gained, "gain over none, points", title)
    return figures | more, lacking


def of_pairs(paper: pd.DataFrame) -> dict[str, Figure | None]:
    """The figures over all pairs of a paper; none if there is only one pair."""
    if not many(paper):
        return {}
    return {"matrix": pairs.matrix(paper), "over_pairs": pairs.over_pairs(paper), "heat_map": pairs.heat_map(paper)}


def save(figures: dict[str, Figure], folder: Path) -> None:
    """Save each figure as PNG and SVG in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        for name, figure in figures.items():
            figure.savefig(folder / f"{name}.png", dpi=200)
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None})
