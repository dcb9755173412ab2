"""The model behind a block of the table: one noise for all methods, but for rows that vary far more.

    value = row + seed + noise

Methods of one seed share its weights and batches, so a seed that is lucky for one is lucky for all: a block design
(Montgomery, Design and Analysis of Experiments, chapter 4), solved by least squares on the cells that are there. All rows
estimate one noise together, with (rows - 1) * (seeds - 1) degrees of freedom where a paired t has seeds - 1.

One noise for all needs variances of a size. A row whose variance is more than nine times the median one ("wide") is no part
of it. Accuracies are then looked at on the scale of log odds: a noise that is large in points because the row is far from
the ceiling where the others are (64 % beside 97 %) may be no larger there, and the model of the log odds has such a row.
From three values a variance is known badly: of rows with five times the others' noise one in four is not seen to be wide, and
claims about such a row are then too sure (see tests/test_statistics.py).
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy import special, stats
from scipy.sparse import coo_matrix, csgraph

WIDE, CHANCE = 9, 0.001  # times the median variance, and how often a table of equal variances may show it
NEGLIGIBLE = 1e-9  # of the largest value: below it, a standard error is rounding


@dataclass(frozen=True)
class Fit:
    """values: (rows, units), NaN where nothing was measured. effects, covariance (of the noise's square), sigma, df:
    the least-squares solution. wide: rows with a noise of their own, compared by Welch's t; apart: and no part of sigma. part:
    rows of another part share no unit, not even through others, and are not in one model. odds: of accuracies with wide
    rows, the same solution for their log odds."""

    values: np.ndarray
    effects: np.ndarray
    covariance: np.ndarray
    sigma: float
    df: int
    wide: np.ndarray
    apart: np.ndarray
    part: np.ndarray
    odds: "Fit | None" = None

    def shared(self, row: int, other: int) -> "Fit | None":
        """The model that compares these two: this one, that of the log odds, or none."""
        if self.together(row, other):
            return self
        return self.odds if self.odds and self.odds.together(row, other) else None

    def together(self, row: int, other: int) -> bool:
        """Whether the model compares these two."""
        return not (self.wide[row] or self.wide[other]) and self.part[row] == self.part[other]

    def difference(self, row: int, other: int) -> float:
        """row - other: on equal seeds in the model, else of the plain means; NaN where one has no value."""
        if self.together(row, other):
            return self.effects[row] - self.effects[other]
        return welch(self.values[row], self.values[other])[0]


def fit(values: np.ndarray, percent: bool = False) -> Fit:
    """Solve value = row + unit + noise on the cells of (rows, units) that are not NaN. percent: they are accuracies, with log
    odds where none is 0 or 100."""
    values = np.asarray(values, float)
    model = _solved(values)
    known = values[np.isfinite(values)]
    if percent and model.wide.any() and 0 < known.min() and known.max() < 100:
        return replace(model, odds=_solved(special.logit(values / 100)))
    return model


def _solved(values: np.ndarray) -> Fit:
    middle = np.median(values[np.isfinite(values)]) if np.isfinite(values).any() else 0  # small numbers round less
    wide, apart = wide_rows(values)
    row, unit = np.nonzero(np.isfinite(values) & ~apart[:, None])
    rows, units = values.shape
    design = np.zeros((len(row), rows + units))
    design[np.arange(len(row)), row] = design[np.arange(len(row)), rows + unit] = 1
    inverse = np.linalg.pinv(design.T @ design, hermitian=True)
    measured = values[row, unit] - middle
    solution = inverse @ design.T @ measured
    df = len(row) - np.linalg.matrix_rank(design, tol=1e-8) if len(row) else 0
    rest = measured - design @ solution
    sigma = np.sqrt(rest @ rest / df) if df else np.nan
    links = coo_matrix((np.ones(len(row)), (row, rows + unit)), shape=(rows + units,) * 2)
    part = csgraph.connected_components(links, directed=False)[1][:rows]
    if not sigma > NEGLIGIBLE * np.abs(values[row, unit]).max(initial=0):
        sigma = np.nan
    return Fit(values, solution[:rows], inverse[:rows, :rows], float(sigma), int(df), wide, apart, part)


def wide_rows(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(wide, apart) of each row. wide: its variance over the units, their median effect taken out (the median, so that a
    wild row does not pass its noise on), is more than nine times the median one. apart: and more than chance explains.

    The second matters: equal noises show nine times the median in 45 % and 11 % of tables of eight rows of two and
    three values. To compare such a row by Welch's t costs only its own power; to take it out of the common noise as well
    would make all others claim too much (12 % false finds instead of 5 % for two seeds). So that needs an F-test at 0.1 % over all
    rows. Two rows are a paired t, which needs no equal noise: never wide.
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
        usual = median / (stats.chi2.median(np.median(df)) / np.median(df))  # the mean that belongs to this median
        wide[enough] = variance > WIDE * median
        apart[enough] = wide[enough] & (variance > stats.f.isf(CHANCE / len(df), df, df.sum() - df) * usual)
    return wide, apart


def welch(first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """(difference of the means, its standard error, Satterthwaite's degrees of freedom) of two samples; NaN without two
    values each or without any variation."""
    first, second = first[np.isfinite(first)], second[np.isfinite(second)]
    difference = first.mean() - second.mean() if len(first) and len(second) else np.nan
    if min(len(first), len(second)) < 2:
        return difference, np.nan, np.nan
    parts = np.array([first.var(ddof=1) / len(first), second.var(ddof=1) / len(second)])
    error = np.sqrt(parts.sum())
    if not error > NEGLIGIBLE * max(np.abs(first).max(), np.abs(second).max()):
        return difference, np.nan, np.nan
    return difference, error, parts.sum() ** 2 / (parts**2 / [len(first) - 1, len(second) - 1]).sum()
