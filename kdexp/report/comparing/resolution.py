"""Which gain over a baseline with a noise of its own, or with more seeds than the methods, is detected with 80 % power."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from kdexp.report.comparing.model import Fit
from kdexp.report.comparing.multivariate_t import first_enough, noncentrality
from kdexp.report.reading.settings import BASELINE


@dataclass(frozen=True)
class Resolution:
    """sigma, df: the noise of the methods. own, own_df: that of the baseline; own_df is None if it is the same noise. methods,
    units: how many are compared, over how many seeds. saved: the share of the variance of the baseline's mean that its further
    seeds remove."""

    sigma: float
    df: float
    own: float
    own_df: float | None
    methods: int
    units: int
    saved: float = 0.0

    def gain(self, units: int | None = None, saved: float | None = None) -> float:
        """The smallest gain detected with 80 % power, or with this many seeds, or this share of the variance saved; NaN with
        one seed or without methods."""
        units, saved = units or self.units, self.saved if saved is None else saved
        if min(units, self.units) < 2 or not self.methods or not np.isfinite(self.sigma):
            return np.nan
        grown = (units - 1) / (self.units - 1)  # degrees of freedom
        own, usual = self.own**2 * (1 - saved) / units, self.sigma**2 / units
        share, df = own / (own + usual), self.df * grown
        if self.own_df is not None:
            df = 1 / (share**2 / (self.own_df * grown) + (1 - share) ** 2 / df)
        return float(np.sqrt(own + usual) * noncentrality(self.methods, round(share, 6), round(df, 4)))

    def units_needed(self, gain: float) -> int | None:
        """How many seeds of everything it takes to detect this gain; None if more than 100."""
        return first_enough(gain, self.gain)


def of_fit(model: Fit, methods: int) -> Resolution:
    own = np.sqrt(model.noise.variance) if model.noise else model.sigma
    own_df = model.noise.df if model.noise else None
    return Resolution(model.sigma, model.df, own, own_df, methods, model.values.shape[1], model.saved)


def of_rows(rows: pd.DataFrame) -> Resolution:
    """The same from a block of the table that has a baseline."""
    none = rows[rows.distill == BASELINE].iloc[0]
    methods = rows[(rows.distill != BASELINE) & rows.ranked]
    first = methods.iloc[0]
    return Resolution(
        *(first.sigma, first.df, none.sigma, none.df if none.noisy else None, len(methods), int(first.of), none.saved)
    )


def with_more_baselines(rows: pd.DataFrame, count: int) -> float:
    """The gain that would be detected with `count` more seeds of the baseline alone."""
    none, now = rows[rows.distill == BASELINE].iloc[0], of_rows(rows)
    alone = min(1, (none.sigma / none["std"]) ** 2)  # the share of the baseline's variance that is not due to seeds
    more = none.more + count
    return now.gain(saved=alone * more / (now.units + more))
