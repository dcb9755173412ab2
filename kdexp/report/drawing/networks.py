"""The figures of what a pair's networks know, and what cannot be drawn because the records lack the data."""

import pandas as pd
from matplotlib.figure import Figure

from kdexp.report.comparing.networks import correlations, disagreements, pooled_reliability, teachers
from kdexp.report.drawing.network_figures import (
    attention_figure,
    correlation_maps,
    disagreement_map,
    reliability_diagrams,
)
from kdexp.report.drawing.style import labelled
from kdexp.report.showing import labels

IMAGES = 6  # methods whose attention maps are drawn


def of_pair(rows: pd.DataFrame, runs: pd.DataFrame, data: str | None) -> tuple[dict[str, Figure], list[str]]:
    """(figures by name, sentences on what could not be drawn and why). data: the folder of the data sets."""
    finished, title, name = labelled(rows, runs), labels.title(rows), labels.teacher_of(rows)
    teacher = runs[runs.folder.isin(teachers(finished, runs).values())].assign(row=f"teacher {name}")
    figures: dict[str, Figure] = {}
    both = pd.concat([teacher, finished])
    bins = pooled_reliability(both)
    if bins:
        ece = {} if "ece" not in both else both.groupby("row").ece.mean().dropna().to_dict()
        figures["reliability"] = reliability_diagrams(bins, ece, title)
    lacking = _without_logits(both, set(bins))
    if teacher.empty:
        lacking.append(f"There is no record of {name} itself, so no student is compared with its teacher.")
    apart, related = disagreements(finished, runs), correlations(finished, runs)
    figures |= {"disagreements": disagreement_map(apart, title)} if len(apart) else {}
    figures |= {"correlations": correlation_maps(related, title)} if related else {}
    attention = _attention(both, data, title, lacking)
    return figures | ({"attention": attention} if attention else {}), lacking


def _without_logits(both: pd.DataFrame, known: set[str]) -> list[str]:
    without = [row for row in both.row.unique() if row not in known]
    if not without:
        return []
    why = "older records, keep_logits=false, or packed without --weights"
    if not known:
        return [f"No run here kept its test logits ({why}), so there are no reliability diagrams and no correlations."]
    return [
        f"Not in the reliability diagrams and correlations, for lack of test logits ({why}): {labels.listed(without)}."
    ]


def _attention(both: pd.DataFrame, data: str | None, title: str, lacking: list[str]) -> Figure | None:
    """Draw each row's first run. What is missing is appended to `lacking`."""
    if not data:
        lacking.append("Gains per class and attention maps need the data set: --data DIR.")
        return None
    from kdexp.report.comparing.attention import attention_maps, images_of_classes  # torch takes seconds to import

    try:
        images = images_of_classes(both.folder.iloc[0], data, IMAGES)
    except ValueError as error:
        lacking.append(f"No attention maps: {error}")
        return None
    maps = {}
    for run in both.drop_duplicates("row").itertuples():
        try:
            maps[run.row] = attention_maps(run.folder, images)
        except ValueError as error:
            lacking.append(f"No attention maps of {run.row}: {error}")
    return attention_figure(images.numpy(), maps, title) if maps else None
