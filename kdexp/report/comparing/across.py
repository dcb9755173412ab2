"""What holds across teacher-student pairs: compares every two methods, with the pairs as the sample.

A pair's mean counts as one value no matter how many seeds it has: ten seeds of one pair say nothing about the next pair. For
two methods, let d be the differences of their means on the pairs that have both:

- mean of d, with Student's t interval over the pairs (each interval at 95 % by itself, not jointly);
- wins, ties and losses. A tie is a difference of at most the rope, the region of practical equivalence;
- Wilcoxon's signed-rank test (1945), two-sided, exact (all sign assignments enumerated) for up to 13 pairs, with
  Holm's correction (1979) in two families of questions: each method against the baseline, and every two methods;
- the Bayesian signed-rank test of Benavoli et al. 2014 (ICML, "A Bayesian Wilcoxon signed-rank test based on the
  Dirichlet process"): how probable it is that the difference is mostly above the rope, inside it, or below. One
  pseudo-observation of weight 0.5 at 0, as in baycomp (whose loop in Python takes 100 times as long; tests compare);
- the plain probability of improvement: the share of pairs where one method is above the other; equal pairs count half.

Methods are not ranked: in Nemenyi's and Conover's comparisons of mean ranks, A against B depends on which C and D
are in the table (Benavoli et al. 2016, JMLR 17:5; Ismail-Fawaz et al. 2023, arXiv:2305.11921). Everything above depends
on A and B alone, except for Holm's factor.

Limits with few pairs: the smallest two-sided p of n pairs is 2 / 2^n, so five pairs never reach 0.05. Pairs that share a
teacher or a student are not independent, and no test here accounts for that.
"""

import itertools
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.05
ROPE = 0.2  # points: how much two means of three seeds differ by chance at a spread of 0.25, 0.25 * sqrt(2 / 3)
EXACT = 13  # with up to this many pairs, all 2^n sign assignments are enumerated
SAMPLES, PRIOR = 50_000, 0.5
FEW = 3  # with fewer pairs than this, the Bayesian test is not used


def every_two(values: pd.DataFrame, baseline: str | None = None, rope: float = ROPE) -> pd.DataFrame:
    """One row per two methods, from (method, pair) values; higher is better, NaN marks a missing value.

    Columns: first, second, pairs (that have both), difference (first - second), low, high, wins, ties, losses, p, holm,
    better, equal, worse (probabilities that first beats second by more than the rope, and so on; need three pairs),
    improvement. NaN if fewer than two pairs have both, or if nothing varies. baseline: its comparisons form their own
    family for Holm's correction. rope: in the units of the values.
    """
    comparisons = pd.DataFrame([_two(values, *names, rope) for names in itertools.combinations(values.index, 2)])
    if comparisons.empty:
        return comparisons
    against = (comparisons["first"] == baseline) | (comparisons["second"] == baseline)
    p = comparisons.p
    return comparisons.assign(holm=holm(p.where(against)).fillna(holm(p.where(~against))))


def _two(values: pd.DataFrame, first: str, second: str, rope: float) -> dict:
    d = (values.loc[first] - values.loc[second]).dropna().to_numpy().round(9)  # 0.1 + 0.2 ties with 0.3
    better, equal, worse = signed_rank_probabilities(d, rope)
    low, high = t_interval(d)
    return {
        **{"first": first, "second": second, "pairs": len(d), "difference": d.mean() if len(d) else np.nan},
        **{"low": low, "high": high, "wins": int((d > rope).sum()), "ties": int((np.abs(d) <= rope).sum())},
        **{"losses": int((d < -rope).sum()), "p": wilcoxon(d), "better": better, "equal": equal, "worse": worse},
        "improvement": ((d > 0).mean() + (d == 0).mean() / 2) if len(d) else np.nan,
    }


def against(comparisons: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows of `every_two` that involve this method, flipped where needed so that it is always `second`."""
    turned = {"first": "second", "wins": "losses", "better": "worse", "low": "high"}
    forward, mirror = (comparisons[comparisons[place] == name] for place in ("second", "first"))
    mirror = mirror.rename(columns=turned | {value: key for key, value in turned.items()})[comparisons.columns]
    mirror = mirror.assign(
        **{key: -mirror[key] for key in ("difference", "low", "high")}, improvement=1 - mirror.improvement
    )
    return pd.concat([forward, mirror]).sort_index().reset_index(drop=True)


def t_interval(d: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Interval of the mean over pairs; NaN with fewer than two pairs, or if nothing varies."""
    error = d.std(ddof=1) / np.sqrt(len(d)) if len(d) > 1 else 0
    half = stats.t.isf(level / 2, len(d) - 1) * error if error else np.nan
    return d.mean() - half if len(d) else np.nan, d.mean() + half if len(d) else np.nan


def wilcoxon(d: np.ndarray) -> float:
    """Two-sided p of the signed-rank test, ignoring zero differences; 1 if all are zero, NaN with fewer than two pairs."""
    if len(d) < 2 or not d.any():
        return 1.0 if len(d) > 1 else np.nan
    d = d[d != 0]
    if len(np.unique(np.abs(d))) == len(d) or len(d) > EXACT:
        return float(stats.wilcoxon(d).pvalue)
    ranks = stats.rankdata(np.abs(d))  # with ties, scipy enumerates in Python: a second for 13 pairs
    return float((np.abs(_signs(len(d)) @ ranks) >= abs(np.sign(d) @ ranks) - 1e-9).mean())


@lru_cache
def _signs(pairs: int) -> np.ndarray:
    """(2^pairs, pairs): all assignments of signs."""
    return np.array(list(itertools.product((-1, 1), repeat=pairs)))


def signed_rank_probabilities(d: np.ndarray, rope: float) -> tuple[float, float, float]:
    """(better, equal, worse): the share of posterior draws with most of their mass above the rope, inside it, below it. The
    draws are the same every time. NaN with fewer than three pairs: with two, it is sure that one of two equal methods is
    better in every seventh table."""
    if len(d) < FEW:
        return np.nan, np.nan, np.nan
    points = np.append(0.0, d)
    sums = points[:, None] + points
    step = lambda value: (value > 2 * rope) + 0.5 * (value == 2 * rope)  # points on the edge count half
    weights = _weights(len(d))
    above, below = (((weights @ step(side)) * weights).sum(1) for side in (sums, -sums))
    inside = 1 - above - below if rope > 0 else np.full(SAMPLES, -1.0)
    largest = np.argmax([below, inside, above], axis=0)
    better, equal, worse = (float((largest == place).mean()) for place in (2, 1, 0))
    return better, equal, worse


@lru_cache
def _weights(pairs: int) -> np.ndarray:
    """(draws, 1 + pairs): weights drawn from the Dirichlet process's posterior; the same every time."""
    return np.random.default_rng(0).dirichlet(np.append(PRIOR, np.ones(pairs)), SAMPLES)


def holm(p: pd.Series) -> pd.Series:
    """Holm's step-down adjusted p values; NaN stays NaN."""
    known = p.dropna().sort_values(kind="stable")
    return (known * np.arange(len(known), 0, -1)).cummax().clip(upper=1).reindex(p.index)


def smallest_p(pairs: int) -> float:
    """The smallest p that the signed-rank test can reach with this many pairs, all differences having one sign."""
    return min(1.0, 2.0 / 2**pairs)


def pairs_needed(questions: int) -> int:
    """The fewest pairs with which the first of this many questions can pass Holm's correction at 5 %."""
    return int(np.ceil(np.log2(2 * max(questions, 1) / LEVEL) - 1e-12))
