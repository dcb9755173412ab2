"""How far our gains are from published ones, over the pairs that both have in common."""

import pandas as pd


def distances(found: pd.DataFrame) -> pd.DataFrame:
    """Summarizes the rows of `beside`, over any number of pairs, into a row for each method and source: pairs (with both
    gains), distance (mean absolute difference of the gains, points), difference (mean of ours - theirs), same_recipe. If a
    source has several numbers for one cell, their mean counts."""
    known = found[found.gain.notna() & found.published_gain.notna()]
    if known.empty:
        return pd.DataFrame(columns=["method", "source", "pairs", "distance", "difference", "same_recipe"])
    cells = known.groupby(["method", "source", "dataset", "teacher", "student"], sort=False)
    cells = cells.agg(
        gain=("gain", "mean"), theirs=("published_gain", "mean"), same=("same_recipe", "all")
    ).reset_index()
    cells["apart"] = cells.gain.astype(float) - cells.theirs
    return (
        cells.assign(distance=cells.apart.abs())
        .groupby(["method", "source"], sort=False)
        .agg(
            pairs=("apart", "size"),
            distance=("distance", "mean"),
            difference=("apart", "mean"),
            same_recipe=("same", "all"),
        )
        .reset_index()
    )
