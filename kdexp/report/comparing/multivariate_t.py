"""The maximum of several correlated t variables: critical values, p values and power of simultaneous comparisons.

Deterministic: the same numbers every time. Accurate to 1e-3, or 3e-3 above 64 variables (tests compare with quadrature
and with repeated draws).
"""

import bisect
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from scipy import optimize, special, stats

LEVEL, POWER = 0.05, 0.8


@lru_cache(maxsize=2)  # 17 MB for 16 variables
def _normals(count: int) -> np.ndarray:
    """(points, count) independent normals, a fixed quasi-random sample."""
    points = 17 if count <= 16 else 16 if count <= 64 else 14
    return special.ndtri(stats.qmc.Sobol(count, seed=1).random_base2(points).clip(1e-12, 1 - 1e-12))


@lru_cache(maxsize=512)
def _largest(correlation: bytes, count: int, sides: int) -> np.ndarray:
    """The distribution of the maximum of `count` correlated normals (of their absolute values if two-sided), as the means of
    512 equally likely slices of a fixed quasi-random sample."""
    matrix = np.frombuffer(correlation).reshape(count, count)
    weights, vectors = np.linalg.eigh(matrix)
    root = (vectors * np.sqrt(weights.clip(0)))[:, ::-1]  # the common part first: it gets the best coordinates
    drawn = _normals(count) @ root.T
    largest = (np.abs(drawn) if sides == 2 else drawn).max(1)
    return np.sort(largest).reshape(512, -1).mean(1).clip(1e-300)


def tail(t: np.ndarray, correlation: np.ndarray, df: float | np.ndarray, sides: int = 2) -> np.ndarray:
    """P(maximum of correlated t variables >= t), for the multivariate t with this correlation and df (one, or one for each
    t). The common chi is integrated exactly, the normals by a fixed sample."""
    largest = _largest(np.round(correlation, 9).tobytes(), len(correlation), sides)
    t = np.atleast_1d(np.asarray(t, float))[:, None].clip(1e-12)
    half = np.reshape(df, (-1, 1)) / 2
    return special.gammainc(half, half * (largest / t) ** 2).mean(1)


@lru_cache(maxsize=4096)
def _critical(correlation: bytes, count: int, df: float, level: float, sides: int) -> float:
    matrix = np.frombuffer(correlation).reshape(count, count)
    return optimize.brentq(lambda t: tail(t, matrix, df, sides)[0] - level, 1e-3, 1e4, xtol=1e-6)


def critical(correlation: np.ndarray, df: float, level: float = LEVEL, sides: int = 2) -> float:
    """The value that the maximum of correlated t variables exceeds with probability `level`."""
    return _critical(np.round(correlation, 9).tobytes(), len(correlation), df, level, sides)


def sidak(t: np.ndarray, df: np.ndarray, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """(critical values, p values) of these t variables, jointly and two-sided, whatever their correlation: Šidák's bound,
    which is exact for independent ones and a little too cautious for others."""
    alone = -np.expm1(np.log1p(-level) / len(t))  # 1 - (1 - level)^(1/count)
    p = (2 * stats.t.sf(abs(t), df)).clip(max=1 - 1e-12)
    return stats.t.isf(alone / 2, df), -np.expm1(len(t) * np.log1p(-p))


@lru_cache(maxsize=4096)
def noncentrality(count: int, correlation: float, df: float) -> float:
    """The true difference, in standard errors, that one of `count` equally correlated comparisons detects with 80 % power."""
    bound = critical(np.full((count,) * 2, correlation) + (1 - correlation) * np.eye(count), df)
    return optimize.brentq(lambda shift: stats.nct.sf(bound, df, shift) - POWER, 0, 20 * bound, xtol=1e-4)


def smallest_difference(sigma: float, rows: int, units: int) -> float:
    """The difference between a row and the reference that is detected with 80 % power; NaN with one unit."""
    if units < 2 or rows < 2 or not np.isfinite(sigma):
        return np.nan
    return sigma * np.sqrt(2 / units) * noncentrality(rows - 1, 0.5, (rows - 1) * (units - 1))


def units_needed(difference: float, sigma: float, rows: int, most: int = 100) -> int | None:
    """How many seeds (or teachers) it takes to detect this difference with 80 % power; None if more than `most`."""
    return first_enough(difference, lambda units: smallest_difference(sigma, rows, units), most)


def first_enough(difference: float, smallest: Callable[[int], float], most: int = 100) -> int | None:
    """The number of units from which on this difference is detected; None if more than `most`. smallest: the smallest
    difference that so many units detect."""
    enough = lambda units: bool(smallest(units) <= abs(difference))
    return 2 + bisect.bisect_left(range(2, most), True, key=enough) if enough(most) else None
