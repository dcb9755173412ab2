"""How far our gains are from published ones, over the pairs that both have in common."""

import pandas as pd


def distances(cells: pd.DataFrame) -> pd.DataFrame:
    """Summarizes the rows of `beside`, over any number of pairs, into a row for each method and source: pairs (with both
    gains), distance (mean absolute difference of the gains, points), difference (mean of ours - theirs), same_recipe. If a
    source has several numbers for one cell, their mean counts."""
    known = cells[cells.gain.notna() & cells.published_gain.notna()]
    if known.empty:
        return pd.DataFrame(columns=["method", "source", "pairs", "distance", "difference", "same_recipe"])
    means = {"gain": "mean", "published_gain": "mean", "same_recipe": "all"}
    cells = known.groupby(["method", "source", "dataset", "teacher", "student"], sort=False).agg(means)
    difference = cells.gain.astype(float) - cells.published_gain
    cells = cells.assign(pairs=1, distance=difference.abs(), difference=difference)
    over_pairs = {"pairs": "sum", "distance": "mean", "difference": "mean", "same_recipe": "all"}
    return cells.groupby(level=["method", "source"], sort=False).agg(over_pairs).reset_index()
