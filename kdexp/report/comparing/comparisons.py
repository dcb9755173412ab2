"""Which rows of a table differ, given few seeds: simultaneous comparisons in the model of kdexp/report/comparing/model.py.

- Against a reference (the baseline, KD): Dunnett 1955 (JASA 50:1096), two-sided. All intervals hold jointly at 95 %.
- Against the best: Hsu 1984 (Ann. Statist. 12:1136); for unequal variances of contrasts Edwards & Hsu 1983 (JASA
  78:965). Each row in turn is the reference of a one-sided Dunnett comparison, and stays among the best unless another row
  is above it. The rows that stay contain the true best with 95 % confidence. Testing against the best mean seen would
  not give that, because that row was chosen after looking.
- A baseline that is noisier than the methods (kdexp/report/comparing/noisy_baseline.py): each gain has Satterthwaite's degrees of
  freedom, and the bound is that of the multivariate t with the correlation that the two variances give (Hasler & Hothorn
  2008, Biometrical Journal 50:793). Methods are compared with each other, and with KD, by their own noise.
- A row that is wide in points but not in log odds is compared in the model of the log odds, with its interval converted
  to points. A row that is wide on both scales is compared by Welch's t; so is a row that shares no seed with the reference.
  Of m comparisons, each of these rows takes a share of 1/m of the 5 % (Bonferroni); the model keeps the rest.
- Welch's t has two degrees of freedom there and claims little. Nothing better exists if the noise is of unknown size:
  variances moderated by those of the other rows (Smyth 2004, Stat. Appl. Genet. Mol. Biol. 3:3) find more, but give false
  finds in more tables (tests/test_statistics.py). So the text says "too uneven", not "not told apart".

Nothing is claimed (NaN) from one seed, or if nothing varies at all: accuracies are counts of images, and equal counts do
not prove that the noise is zero.
"""

from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from kdexp.report.comparing.least_squares import NEGLIGIBLE
from kdexp.report.comparing.model import Fit
from kdexp.report.comparing.multivariate_t import LEVEL, critical, tail


@dataclass(frozen=True)
class Comparison:
    """Rows against a reference: difference, simultaneous 95 % interval, p, all (rows,). If one-sided, use only `low`."""

    difference: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray


def compare(model: Fit, reference: int, rows: list[int], sides: int = 2, level: float = LEVEL) -> Comparison:
    """Rows against a reference, jointly at `level`: Dunnett within the model; within the model of the log odds, where each row
    takes a share of the level; and Welch with Bonferroni for rows in neither."""
    shared = [model.shared(row, reference) for row in rows]
    numbers = np.full((4, len(rows)), np.nan)
    numbers[0] = [model.difference(row, reference) for row in rows]
    for scale in filter(None, (model, model.odds)):
        inside = np.array([other is scale for other in shared], bool)
        if inside.any():
            chosen = [row for row, is_inside in zip(rows, inside) if is_inside]
            numbers[1:, inside] = _dunnett(scale, reference, chosen, sides, level, len(rows))
            if scale is model.odds:
                numbers[1:3, inside] = _in_points(scale, reference, numbers[1:3, inside], numbers[0, inside])
    for position, row in enumerate(rows):
        if shared[position] is None:
            numbers[1:, position] = _welch(model, reference, row, sides, level, len(rows))
    numbers[3] = numbers[3].clip(max=1)
    return Comparison(*numbers)


def _dunnett(model: Fit, reference: int, rows: list[int], sides: int, level: float, count: int) -> np.ndarray:
    """(low, high, p) x rows of one model, in its units, using its part of the `count` shares of the level."""
    if not np.isfinite(model.sigma):
        return np.full((3, len(rows)), np.nan)
    contrasts = _contrasts(model.covariance, reference, rows)
    scale = np.sqrt(np.diag(contrasts))
    correlation, share = contrasts / np.outer(scale, scale), len(rows) / count
    difference, error = model.effects[rows] - model.effects[reference], model.sigma * scale
    df = np.full(len(rows), float(model.df))
    if model.noise:  # Satterthwaite
        own = np.diag(_contrasts(model.own, reference, rows)) / np.diag(contrasts)
        df = (1 / (own**2 / model.noise.df + (1 - own) ** 2 / model.df)).round(6)
    half = np.array([critical(correlation, row_df, level * share, sides) for row_df in df]) * error
    p = tail(np.abs(difference) / error, correlation, df) / share if sides == 2 else np.full(len(rows), np.nan)
    return np.array([difference - half, difference + half, p])


def _contrasts(covariance: np.ndarray, reference: int, rows: list[int]) -> np.ndarray:
    """The covariance of the rows' differences from the reference."""
    spread = covariance[np.ix_([reference, *rows], [reference, *rows])]
    return spread[1:, 1:] - spread[1:, :1] - spread[:1, 1:] + spread[0, 0]


def _in_points(odds: Fit, reference: int, bounds: np.ndarray, difference: np.ndarray) -> np.ndarray:
    """Converts (low, high) x rows from log odds to points above the reference's accuracy. Widened if needed to contain the
    difference of the means, which differs on a nonlinear scale."""
    middle = np.nanmean(odds.values[reference])
    low, high = 100 * (special.expit(middle + bounds) - special.expit(middle))
    return np.array([np.minimum(low, difference), np.maximum(high, difference)])


def _welch(model: Fit, reference: int, row: int, sides: int, level: float, count: int) -> tuple[float, float, float]:
    difference, error, df = model.welch(row, reference)
    half = stats.t.isf(level / sides / count, df) * error
    return difference - half, difference + half, 2 * stats.t.sf(abs(difference) / error, df) * count


def among_best(model: Fit, rows: list[int]) -> np.ndarray:
    """Which rows have no other row above them: they contain the truly best one with 95 % confidence. All False if nothing
    can be claimed. Higher `values` must be better."""
    if len(rows) < 2:
        return np.zeros(len(rows), bool)
    above = [compare(model, row, [other for other in rows if other != row], sides=1).low for row in rows]
    claimed = np.isfinite(above).any()
    return np.array([claimed and not (low > 0).any() for low in above], bool)


def paired_p(first: np.ndarray, second: np.ndarray) -> float:
    """Plain two-sided paired t over the shared units, uncorrected; NaN with fewer than two units or no variation."""
    differences = (first - second)[np.isfinite(first - second)]
    if len(differences) < 2:
        return np.nan
    error = differences.std(ddof=1) / np.sqrt(len(differences))
    if not error > NEGLIGIBLE * max(np.nanmax(np.abs(first)), np.nanmax(np.abs(second))):
        return np.nan
    return float(2 * stats.t.sf(abs(differences.mean()) / error, len(differences) - 1))
