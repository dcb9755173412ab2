"""What a block of the table says about a baseline that is noisier than the methods, or has more seeds, in plain words."""

import pandas as pd

from kdexp.report.comparing.resolution import of_rows, with_more_baselines
from kdexp.report.reading.settings import BASELINE
from kdexp.report.showing.labels import amount, number


def sentences(rows: pd.DataFrame, ranked: pd.DataFrame, unit: str) -> list[str]:
    """Sentences: how noisy the baseline is, what its further seeds contribute, when more of them would help most."""
    baseline = rows[rows.distill == BASELINE]
    if len(baseline) != 1:
        return []
    none, metric, said = baseline.iloc[0], rows.metric.iloc[0], []
    if none.noisy:
        own, usual = (number(sigma, metric) for sigma in (none.sigma, ranked.sigma.iloc[0]))
        said.append(
            f"none varies more over {unit}s than the methods do (standard deviation {own} against {usual}, {unit} effects "
            "removed), so gains over none have wider intervals; methods are compared with each other by their own noise."
        )
    if none.more:
        extra = f"{none.more} more {unit}{'s' if none.more > 1 else ''} of none"
        said.append(
            f"Gains also use {extra}: for them, the mean of none counts as {number(none.baseline, metric)}, not as "
            f"{number(none['mean'], metric)}."
        )
    open_gains = ((ranked.low <= 0) & (ranked.high >= 0) & (ranked.test == "noisy baseline")).any()
    return said + _cheaper(rows, ranked, unit) if none.noisy and open_gains else said


def _cheaper(rows: pd.DataFrame, ranked: pd.DataFrame, unit: str) -> list[str]:
    """Whether more runs of the baseline alone would resolve smaller gains than as many runs of everything."""
    runs, now = len(ranked) + 1, of_rows(rows)
    alone, everything = with_more_baselines(rows, runs), now.gain(now.units + 1, saved=0)
    if not alone < everything:
        return []
    metric = rows.metric.iloc[0]
    return [
        f"{runs} more {unit}s of none alone would resolve gains of about {amount(alone, metric)}; one more {unit} of "
        f"everything takes as many runs and would resolve {amount(everything, metric)}."
    ]
