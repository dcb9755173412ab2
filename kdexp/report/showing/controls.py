"""The sentence on controls: rows that pass on no knowledge about the image, and how much they gain anyway."""

import pandas as pd

from kdexp.report.comparing.table import lower_is_better
from kdexp.report.reading.settings import BASELINE, KD
from kdexp.report.showing.labels import amount, listed, name


def controls(rows: pd.DataFrame) -> list[str]:
    """How much of a gain controls reach too: of KD's gain, because the controls are variants of KD, else of the best method's."""
    ranked = rows[(rows.distill != BASELINE) & rows.ranked & rows.gain.notna()]
    without, taught = ranked[ranked.control], ranked[~ranked.control]
    if without.empty or taught.empty:
        return []
    metric = rows.metric.iloc[0]
    sign = -1 if lower_is_better(metric) else 1
    real = taught[taught.distill == KD] if (taught.distill == KD).any() else taught
    real = real.loc[(sign * real.gain).idxmax()]
    if sign * real.gain <= 0:
        return []
    each = listed([f"{name(row, rows)} {amount(row.gain, metric)}" for _, row in without.iterrows()])
    start = f"{name(real, rows)} gains {amount(real.gain, metric)} over none. Controls, whose teacher says little or nothing"
    if (sign * without.gain <= 0).all():
        return [f"{start} about the image, gain nothing: {each}."]
    unsure = "" if (without.p < 0.05).any() else " (none of it significant)"
    return [f"{start} about the image, change accuracy too: {each}{unsure}."]
