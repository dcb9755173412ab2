"""What holds across pairs of teacher and student: every two methods, with the pairs as the sample.

A pair's mean is one value, however many seeds are behind it: ten seeds of one pair say nothing about the next pair. For two
methods, d = the differences of their means in the pairs that have both:

- mean of d, with Student's t interval over the pairs (each interval by itself, not all together);
- wins, ties and losses. A tie is a difference of at most the rope, the region of practical equivalence;
- Wilcoxon's signed-rank test (1945), two-sided, every assignment of signs counted where there are at most 13 pairs;
  with Holm's correction (1979) in two families of questions: each method against the baseline, and every two methods;
- the Bayesian signed-rank test of Benavoli et al. 2014 (ICML, "A Bayesian Wilcoxon signed-rank test based on the
  Dirichlet process"): how probable it is that the difference is mostly above the rope, inside it, or below. One
  pseudo-observation of weight 0.5 at 0, as in baycomp (whose loop in Python takes 100 times as long; tests compare);
- the plain probability of improvement: the share of pairs in which one is above the other, equal ones counted half.

No ranks over all methods: in Nemenyi's and Conover's comparisons of mean ranks, A against B depends on which C and D
are in the table (Benavoli et al. 2016, JMLR 17:5; Ismail-Fawaz et al. 2023, arXiv:2305.11921). All of the above depends
on A and B alone, but for Holm's factor.

What few pairs cannot say: the smallest two-sided p of n pairs is 2 / 2^n, so five never reach 0.05. Pairs that share a
teacher or a student are less than independent, which no test here knows.
"""

import itertools
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.05
ROPE = 0.2  # points: by so much the means of three seeds of spread 0.25 differ by chance, 0.25 * sqrt(2 / 3)
EXACT = 13  # pairs up to which all 2^n assignments of signs are counted
SAMPLES, PRIOR = 50_000, 0.5
FEW = 3  # pairs below which the Bayesian test says nothing


def every_two(values: pd.DataFrame, control: str | None = None, rope: float = ROPE) -> pd.DataFrame:
    """A row for every two methods of (method, pair) values, better when higher, NaN where there is none.

    Columns: first, second, pairs (that have both), difference (first - second), low, high, wins, ties, losses, p, holm,
    better, equal, worse (probabilities; first against second by more than the rope, from three pairs), improvement. NaN where
    fewer than two pairs have both, or nothing varies. control: the baseline, whose comparisons are a family of their own.
    rope: in the units of the values.
    """
    found = pd.DataFrame([_two(values, *names, rope) for names in itertools.combinations(values.index, 2)])
    if found.empty:
        return found
    against = (found["first"] == control) | (found["second"] == control)
    return found.assign(holm=holm(found.p.where(against)).fillna(holm(found.p.where(~against))))


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


def against(found: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows of `every_two` with this method, each seen from the other one: `first` is the other, `second` is it."""
    turned = {"first": "second", "wins": "losses", "better": "worse", "low": "high"}
    forward, mirror = found[found["second"] == name], found[found["first"] == name]
    mirror = mirror.rename(columns=turned | {value: key for key, value in turned.items()})[found.columns]
    mirror = mirror.assign(
        **{key: -mirror[key] for key in ("difference", "low", "high")}, improvement=1 - mirror.improvement
    )
    return pd.concat([forward, mirror]).sort_index().reset_index(drop=True)


def t_interval(d: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Of the mean, over pairs; NaN below two, or where nothing varies."""
    error = d.std(ddof=1) / np.sqrt(len(d)) if len(d) > 1 else 0
    half = stats.t.isf(level / 2, len(d) - 1) * error if error else np.nan
    return d.mean() - half if len(d) else np.nan, d.mean() + half if len(d) else np.nan


def wilcoxon(d: np.ndarray) -> float:
    """Two-sided p of the signed-rank test, differences of zero left out; 1 where all are zero, NaN below two pairs."""
    if len(d) < 2 or not d.any():
        return 1.0 if len(d) > 1 else np.nan
    d = d[d != 0]
    if len(np.unique(np.abs(d))) == len(d) or len(d) > EXACT:
        return float(stats.wilcoxon(d).pvalue)
    ranks = stats.rankdata(np.abs(d))  # with ties, where scipy counts in Python, a second for 13 pairs
    return float((np.abs(_signs(len(d)) @ ranks) >= abs(np.sign(d) @ ranks) - 1e-9).mean())


@lru_cache
def _signs(pairs: int) -> np.ndarray:
    """(2^pairs, pairs): every assignment of signs."""
    return np.array(list(itertools.product((-1, 1), repeat=pairs)))


def signed_rank_probabilities(d: np.ndarray, rope: float) -> tuple[float, float, float]:
    """(better, equal, worse): how often, in draws of the posterior, most of it lies above the rope, inside, below. The same
    draws every time. NaN below three pairs: of two equal methods on two pairs it is sure of one in every seventh table."""
    if len(d) < FEW:
        return np.nan, np.nan, np.nan
    points = np.append(0.0, d)
    sums = points[:, None] + points
    step = lambda value: (value > 2 * rope) + 0.5 * (value == 2 * rope)  # half of what lies on the edge
    weights = _weights(len(d))
    above, below = (((weights @ step(side)) * weights).sum(1) for side in (sums, -sums))
    inside = 1 - above - below if rope > 0 else np.full(SAMPLES, -1.0)
    largest = np.argmax([below, inside, above], axis=0)
    return tuple(float((largest == place).mean()) for place in (2, 1, 0))


@lru_cache
def _weights(pairs: int) -> np.ndarray:
    """(draws, 1 + pairs) of the Dirichlet process's posterior; the same every time."""
    return np.random.default_rng(0).dirichlet(np.append(PRIOR, np.ones(pairs)), SAMPLES)


def holm(p: pd.Series) -> pd.Series:
    """Holm's step-down p values of those that are numbers."""
    known = p.dropna().sort_values(kind="stable")
    adjusted = np.maximum.accumulate(known * np.arange(len(known), 0, -1)).clip(upper=1)
    return adjusted.reindex(p.index)


def smallest_p(pairs: int) -> float:
    """What the signed-rank test of so many pairs can reach: all on one side."""
    return min(1.0, 2.0 / 2**pairs)


def pairs_needed(questions: int) -> int:
    """The fewest pairs with which the first of so many questions can pass Holm's correction at 5 %."""
    return int(np.ceil(np.log2(2 * max(questions, 1) / LEVEL) - 1e-12))
