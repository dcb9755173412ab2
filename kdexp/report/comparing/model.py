"""The model behind a block of the table: one noise level for all methods, except for rows that vary far more.

    value = row + seed + noise

Methods with the same seed share initial weights and batches, so a seed that is lucky for one is lucky for all. This is a
block design (Montgomery, Design and Analysis of Experiments, chapter 4), solved by least squares on the cells that have a
value. All rows estimate one noise level together, with (rows - 1) * (seeds - 1) degrees of freedom; a paired t has seeds - 1.

A common noise level needs similar variances. Two kinds of rows may not have them:

- The baseline is part of every gain, so if it is noisier than the methods, all claims are too sure at once. An F test decides
  whether it keeps a noise level of its own (kdexp/report/comparing/noisy_baseline.py).
- A method whose variance is more than nine times the median ("wide") is left out. Accuracies are then compared on the scale of
  log odds: if a row's noise is large in points only because it is far from the ceiling where the others are (64 % next to
  97 %), it may be no larger in log odds, and then the model of the log odds includes it. Three values estimate a variance
  poorly: of rows with five times the others' noise, one in four is not detected as wide, and claims about it are then too sure
  (see tests/test_statistics.py).
"""

from dataclasses import dataclass, field, replace

import numpy as np
from scipy import special, stats

from kdexp.report.comparing.least_squares import NEGLIGIBLE, least_squares
from kdexp.report.comparing.noisy_baseline import Noise, covariances, more_seeds, own_noise

WIDE, CHANCE = 9, 0.001  # times the median variance, and how often a table with equal variances may show it by chance


@dataclass(frozen=True)
class Fit:
    """values: (rows, units), NaN if not measured. effects, covariance (in units of the noise variance), sigma, df: the
    least-squares solution. wide: rows with a noise level of their own, compared by Welch's t; apart: these are also left out
    of sigma. part: rows of different parts share no unit, not even through other rows, and cannot be in one model. odds: the
    same solution for the log odds, if the values are accuracies with wide rows.

    baseline: its row, or None; unpaired: its values on units that no other row has. noise: the baseline's own if it is noisier
    than the methods, otherwise None; sigma and df are then those of the methods. own: the part of `covariance` that is due to
    the baseline's own noise. added, saved: what the unpaired values add to the baseline's mean, and the share of its variance
    that they remove."""

    values: np.ndarray
    effects: np.ndarray
    covariance: np.ndarray
    sigma: float
    df: int
    wide: np.ndarray
    apart: np.ndarray
    part: np.ndarray
    own: np.ndarray
    odds: "Fit | None" = None
    baseline: int | None = None
    unpaired: np.ndarray = field(default_factory=lambda: np.empty(0))
    noise: Noise | None = None
    added: float = 0.0
    saved: float = 0.0

    def shared(self, row: int, other: int) -> "Fit | None":
        """The model that compares these two: this one, the one of the log odds, or none."""
        if self.together(row, other):
            return self
        return self.odds if self.odds and self.odds.together(row, other) else None

    def together(self, row: int, other: int) -> bool:
        """Whether this model can compare these two."""
        return not (self.wide[row] or self.wide[other]) and self.part[row] == self.part[other]

    def difference(self, row: int, other: int) -> float:
        """row - other: on equal seeds if the model compares them, else between plain means; NaN if one has no value."""
        if self.together(row, other):
            return self.effects[row] - self.effects[other]
        return self.welch(row, other)[0]

    def welch(self, row: int, other: int) -> tuple[float, float, float]:
        """(difference of the means, its standard error, degrees of freedom), by all values of both rows."""
        values = lambda index: np.append(self.values[index], self.unpaired if index == self.baseline else [])
        return welch(values(row), values(other))


def fit(values: np.ndarray, percent: bool = False, baseline: int | None = 0, unpaired: np.ndarray | None = None) -> Fit:
    """Solve value = row + unit + noise on the cells of (rows, units) that are not NaN.

    percent: they are accuracies, and have log odds if none is 0 or 100. baseline: the row that may be noisier than the others;
    None if there is none. unpaired: further values of this row, (seeds,), on units that no other row has."""
    values = np.asarray(values, float)
    more = np.asarray([] if unpaired is None else unpaired, float)
    model = _solved(values, baseline, more)
    known = np.append(values[np.isfinite(values)], more)
    if percent and model.wide.any() and 0 < known.min() and known.max() < 100:
        return replace(model, odds=_solved(special.logit(values / 100), baseline, special.logit(more / 100)))
    return model


def _solved(values: np.ndarray, baseline: int | None, unpaired: np.ndarray) -> Fit:
    wide, apart = wide_rows(values)
    here = np.arange(len(values)) == (-1 if baseline is None else baseline)
    wide, apart = wide & ~here, apart & ~here  # the baseline's noise has a test of its own
    used = np.isfinite(values) & ~apart[:, None]
    every = least_squares(values, used)
    methods = least_squares(values, used & ~here[:, None]) if here.any() else every
    noise = own_noise(every, methods, here)
    sigma, df = (methods.sigma, methods.df) if noise else (every.sigma, every.df)
    variance = noise.variance if noise else sigma**2
    added, saved = more_seeds(values[used & here[:, None]], unpaired, variance)
    parts = every.covariance, np.zeros_like(every.covariance)
    if noise or saved:
        parts = covariances(every, here, variance / sigma**2, saved)
    found = {"values": values, "effects": every.effects + added * here, "covariance": parts[0], "own": parts[1]}
    found |= {"sigma": sigma, "df": df, "wide": wide, "apart": apart, "part": every.part}
    return Fit(**found, baseline=baseline, unpaired=unpaired, noise=noise, added=added, saved=saved)


def wide_rows(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(wide, apart) of each row. wide: its variance over the units is more than nine times the median. The units' median
    effect is subtracted first (the median, so that a wild row does not pass on its noise). apart: the variance is also more
    than chance explains.

    The second condition matters: with equal noise, some row reaches nine times the median in 45 % of tables of eight rows
    with two values each, and in 11 % with three. Comparing such a row by Welch's t only costs its own power, but leaving it
    out of the common noise as well would make all others claim too much (12 % false finds instead of 5 % with two seeds). So
    `apart` takes an F-test at 0.1 % over all rows. Two rows are a paired t, which does not need equal noise: never wide.
    """
    wide, apart = np.zeros((2, len(values)), bool)
    enough = np.flatnonzero(np.isfinite(values).sum(1) >= 2)
    if len(enough) < 3:
        return wide, apart
    known = values[np.ix_(enough, np.isfinite(values[enough]).any(0))]
    centred = known - np.nanmedian(known, axis=1, keepdims=True)
    variance = np.nanvar(known - np.nanmedian(centred, axis=0), axis=1, ddof=1)
    varying = variance > (NEGLIGIBLE * np.nanmax(np.abs(known))) ** 2
    if varying.any():
        df = np.isfinite(known).sum(1) - 1
        median = np.median(variance[varying])
        usual = median / (stats.chi2.median(np.median(df)) / np.median(df))  # the mean that corresponds to this median
        wide[enough] = variance > WIDE * median
        apart[enough] = wide[enough] & (variance > stats.f.isf(CHANCE / len(df), df, df.sum() - df) * usual)
    return wide, apart


def welch(first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """(difference of the means, its standard error, Satterthwaite's degrees of freedom) of two samples; NaN with fewer
    than two values each or no variation."""
    first, second = first[np.isfinite(first)], second[np.isfinite(second)]
    difference = first.mean() - second.mean() if len(first) and len(second) else np.nan
    if min(len(first), len(second)) < 2:
        return difference, np.nan, np.nan
    parts = np.array([first.var(ddof=1) / len(first), second.var(ddof=1) / len(second)])
    error = np.sqrt(parts.sum())
    if not error > NEGLIGIBLE * max(np.abs(first).max(), np.abs(second).max()):
        return difference, np.nan, np.nan
    return difference, error, parts.sum() ** 2 / (parts**2 / [len(first) - 1, len(second) - 1]).sum()
