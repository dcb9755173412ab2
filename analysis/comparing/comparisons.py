"""Which rows of a table differ, from few seeds: a two-way model with simultaneous comparisons.

    value = row + seed + noise

Methods of one seed share its weights and batches, so a seed that is lucky for one is lucky for all: a block design
(Montgomery, Design and Analysis of Experiments, chapter 4), solved by least squares on the cells that are there. All rows
estimate one noise together, with (rows - 1) * (seeds - 1) degrees of freedom where a paired t has seeds - 1.

- Against a control (the baseline, KD): Dunnett 1955 (JASA 50:1096), two-sided. All intervals hold together with 95 %.
- Against the best: Hsu 1984 (Ann. Statist. 12:1136), for unequal variances of contrasts Edwards & Hsu 1983 (JASA
  78:965). Each row in turn is the control of a one-sided Dunnett comparison, and stays among the best unless another is above it. The
  rows that stay contain the true best with 95 %, which a test against the best one seen does not give: it was
  chosen after looking.
- One noise for all needs variances of a size. A row whose variance is more than nine times the median one ("wide") is
  compared by Welch's t; so is a row that shares no seed with the control. Of m comparisons, each of these takes a share of
  1/m of the 5 % (Bonferroni), the model keeps the rest. From three values a variance is known badly: of rows with five times the
  others' noise one in four is not seen to be wide, and claims about such a row are then too sure (see tests/test_statistics.py).

Nothing is claimed (NaN) from one seed, or where nothing varies at all: accuracies are counts of images, and equal counts
are no proof of a noise of zero.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.sparse import coo_matrix, csgraph

from analysis.comparing.multivariate_t import LEVEL, critical, tail

WIDE, CHANCE = 9, 0.001  # times the median variance, and how often a table of equal variances may show it
NEGLIGIBLE = 1e-9  # of the largest value: below it, a standard error is rounding


@dataclass(frozen=True)
class Fit:
    """values: (rows, units), NaN where nothing was measured. effects, covariance (of the noise's square), sigma, df:
    the least-squares solution. wide: rows with a noise of their own, compared by Welch's t; apart: and no part of sigma. part:
    rows of another part share no unit, not even through others, and are not in one model."""

    values: np.ndarray
    effects: np.ndarray
    covariance: np.ndarray
    sigma: float
    df: int
    wide: np.ndarray
    apart: np.ndarray
    part: np.ndarray

    def together(self, row: int, other: int) -> bool:
        """Whether the model compares these two."""
        return not (self.wide[row] or self.wide[other]) and self.part[row] == self.part[other]

    def difference(self, row: int, other: int) -> float:
        """row - other: on equal seeds in the model, else of the plain means; NaN where one has no value."""
        if self.together(row, other):
            return self.effects[row] - self.effects[other]
        return welch(self.values[row], self.values[other])[0]


@dataclass(frozen=True)
class Comparison:
    """Rows against a control: difference, simultaneous 95 % interval, p, all (rows,). One-sided: only `low` is meant."""

    difference: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray


def fit(values: np.ndarray) -> Fit:
    """Solve value = row + unit + noise on the cells of (rows, units) that are not NaN."""
    values = np.asarray(values, float)
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


def compare(model: Fit, control: int, rows: list[int], sides: int = 2, level: float = LEVEL) -> Comparison:
    """Rows against a control, all together at `level`: Dunnett in the model, Welch with Bonferroni outside of it."""
    difference = np.array([model.difference(row, control) for row in rows])
    inside = np.array([model.together(row, control) for row in rows], bool)
    error, df, t_critical, p = (np.full(len(rows), np.nan) for _ in range(4))
    for position in np.flatnonzero(~inside):
        _, error[position], df[position] = welch(model.values[rows[position]], model.values[control])
    outside = ~inside & np.isfinite(error)
    t_critical[outside] = stats.t.isf(level / sides / len(rows), df[outside])
    chosen = np.asarray(rows, int)[inside]
    if inside.any() and np.isfinite(model.sigma):
        spread = model.covariance[np.ix_([control, *chosen], [control, *chosen])]
        contrasts = spread[1:, 1:] - spread[1:, :1] - spread[:1, 1:] + spread[0, 0]
        scale = np.sqrt(np.diag(contrasts))
        correlation, share = contrasts / np.outer(scale, scale), inside.sum() / len(rows)
        error[inside] = model.sigma * scale
        t_critical[inside] = critical(correlation, model.df, level * share, sides)
    t = np.abs(difference) / error
    p[outside] = 2 * stats.t.sf(t[outside], df[outside]) * len(rows)
    if inside.any() and np.isfinite(model.sigma) and sides == 2:
        p[inside] = tail(t[inside], correlation, model.df) / share
    half = t_critical * error
    return Comparison(difference, difference - half, difference + half, p.clip(max=1))


def among_best(model: Fit, rows: list[int]) -> np.ndarray:
    """Which of the rows no other is above: with 95 % the truly best one is among them. None at all if nothing can be
    claimed. `values` must be better when higher."""
    found = np.zeros(len(rows), bool)
    if len(rows) < 2:
        return found
    claimed = False
    for position, row in enumerate(rows):
        others = [other for other in rows if other != row]
        above = compare(model, row, others, sides=1).low
        found[position] = not (above > 0).any()
        claimed |= bool(np.isfinite(above).any())
    return found & claimed


def paired_p(first: np.ndarray, second: np.ndarray) -> float:
    """Plain two-sided paired t over the shared units, corrected for nothing; NaN below two or without variation."""
    differences = (first - second)[np.isfinite(first - second)]
    if len(differences) < 2:
        return np.nan
    error = differences.std(ddof=1) / np.sqrt(len(differences))
    if not error > NEGLIGIBLE * max(np.nanmax(np.abs(first)), np.nanmax(np.abs(second))):
        return np.nan
    return float(2 * stats.t.sf(abs(differences.mean()) / error, len(differences) - 1))
