"""value = row + unit + noise, solved by least squares on the cells that have a value."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix, csgraph

NEGLIGIBLE = 1e-9  # relative to the largest value: a standard error below this is rounding error


@dataclass(frozen=True)
class Solution:
    """row: of each cell. weights: (rows, cells), effects = weights @ values of the cells. covariance: of the effects, in units
    of the noise variance. leverage: how much of each cell's noise its own fit takes up. squares, df: of the residuals. sigma:
    the noise; NaN if it cannot be estimated or is rounding error. part: rows of different parts share no unit, not even
    through other rows."""

    row: np.ndarray
    weights: np.ndarray
    effects: np.ndarray
    covariance: np.ndarray
    leverage: np.ndarray
    squares: float
    df: int
    sigma: float
    part: np.ndarray


def least_squares(values: np.ndarray, used: np.ndarray) -> Solution:
    """values, used: (rows, units), numbers and which of them take part."""
    middle = np.median(values[np.isfinite(values)]) if np.isfinite(values).any() else 0  # smaller rounding errors
    row, unit = np.nonzero(used)
    rows, units = values.shape
    design = np.zeros((len(row), rows + units))
    design[np.arange(len(row)), row] = design[np.arange(len(row)), rows + unit] = 1
    inverse = np.linalg.pinv(design.T @ design, hermitian=True)
    measured = values[row, unit] - middle
    weights = inverse @ design.T
    solution = weights @ measured
    df = len(row) - np.linalg.matrix_rank(design, tol=1e-8) if len(row) else 0
    rest = measured - design @ solution
    sigma = np.sqrt(rest @ rest / df) if df else np.nan
    if not sigma > NEGLIGIBLE * np.abs(values[row, unit]).max(initial=0):
        sigma = np.nan
    links = coo_matrix((np.ones(len(row)), (row, rows + unit)), shape=(rows + units,) * 2)
    part = csgraph.connected_components(links, directed=False)[1][:rows]
    leverage = np.einsum("ij,ji->i", design, weights)
    found = weights[:rows], solution[:rows], inverse[:rows, :rows]
    return Solution(row, *found, leverage, float(rest @ rest), int(df), float(sigma), part)
