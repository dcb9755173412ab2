"""Whether the baseline is noisier than the methods, and what gains over it then are worth.

All gains share the baseline. Distillation makes students vary less, so the baseline often varies more than the methods; with
one noise level for all rows, every claim about a gain is then too sure, and all of them at once.

With D the baseline minus the mean of the M methods, on each of S seeds, and s² the methods' residual mean square:

    F = Var(D) / (s² (1 + 1/M)),   S - 1 and (M - 1)(S - 1) degrees of freedom if all rows are equally noisy

If F is among its largest 25 %, the baseline keeps a variance of its own, Var(D) - s²/M, and a gain has the variance

    Var(D)/S + s² (1 - 1/M)/S

with degrees of freedom by Satterthwaite (1946, Biometrics Bulletin 2:110). Otherwise all rows have one noise level. A strict
test (10 %) would leave too many noisy baselines in the pool, and no test at all would cost power where the baseline is not
noisier. analysis/README.md has the simulation (tests/test_noisy_baseline.py) and the rule by which this was chosen.

Seeds that only the baseline has: with fixed seed effects they would say nothing. Here seeds are random for this purpose. With
own the noise variance of the baseline and total its variance over all its n seeds, seeds included, own/total of a seed's
deviation is noise. This share of the difference between the X further seeds and the S shared ones is added to the baseline's
mean, times X/n (the best linear prediction; Searle, Casella & McCulloch 1992, Variance Components, chapter 7), and the
variance of that mean falls by own/total X/n.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from kdexp.report.comparing.least_squares import Solution

CHANCE = 0.25  # how often the test calls a baseline noisier that is not


@dataclass(frozen=True)
class Noise:
    """Of the baseline: the variance of one value, seed effects removed, and Satterthwaite's degrees of freedom."""

    variance: float
    df: float


def own_noise(every: Solution, methods: Solution, baseline: np.ndarray) -> Noise | None:
    """The baseline's own noise if it is noisier than the methods, otherwise None. every, methods: the same table with and
    without the baseline; baseline: (rows,), which row it is. In a table with holes, F is that of the extra sum of squares."""
    df = every.df - methods.df
    if df < 1 or not np.isfinite(methods.sigma):
        return None
    usual, squares = methods.sigma**2, every.squares - methods.squares
    if not squares / df / usual > stats.f.isf(CHANCE, df, methods.df):
        return None
    # the extra squares estimate own * variance + (df - own) * usual
    own = (1 - every.leverage[baseline[every.row]]).sum()
    raw, shared = squares / own, usual * (df - own) / own
    return Noise(raw - shared, (raw - shared) ** 2 / (raw**2 / df + shared**2 / methods.df))


def more_seeds(paired: np.ndarray, unpaired: np.ndarray, variance: float) -> tuple[float, float]:
    """(what to add to the baseline's mean, the share of its variance that this removes). paired, unpaired: its values on seeds
    that the methods have and on others. variance: of its noise."""
    if not len(unpaired) or not np.isfinite(variance):
        return 0.0, 0.0
    every = np.append(paired, unpaired)
    saved = min(1, variance / every.var(ddof=1)) * len(unpaired) / len(every)
    return saved * (unpaired.mean() - paired.mean()), saved


def covariances(every: Solution, baseline: np.ndarray, ratio: float, saved: float) -> tuple[np.ndarray, np.ndarray]:
    """(rows, rows), in units of the methods' noise variance: of the effects, and the part that is due to the baseline's noise.
    ratio: the baseline's noise variance in these units. saved: see `more_seeds`."""
    mine = baseline[every.row]
    ours, theirs = every.weights[:, mine], every.weights[:, ~mine]
    own = ratio * (ours @ ours.T - np.diag(baseline * saved / mine.sum()))
    return theirs @ theirs.T + own, own
