"""The test images are a sample too: what the gain would be over other seeds and other images of the same kind.

Right counts 100 and wrong 0, so means are in points. A method minus its baseline, on the same seed and the same image:

    difference = gain + seed + image + rest        (a two-way layout, one value per cell, both factors random)

The mean over S seeds and N images has the variance seed/S + image/N + rest/(S N). Three numbers are computed from the
differences (Searle, Casella & McCulloch 1992, Variance Components, chapter 4):

    the variance of the S means over images, / S     estimates   seed/S + rest/(S N)     what intervals over seeds cover
    the variance of the N means over seeds, / N      estimates   image/N + rest/(S N)    `alone`
    the residual mean square, / (S N)                estimates   rest/(S N)              `rest`

The sum of the first two counts the rest twice, so images add alone - rest to the variance over seeds. This part does not
shrink with more seeds. One seed gives only `alone`: a lower bound on the noise, because the seeds' own part is missing.
Miller 2024 (arXiv:2411.00640, section on paired differences) argues that images must be counted, and in pairs. Jordan 2024
(ICLR, arXiv:2304.01910) finds that after long training the rest (errors that fall on different images in each run) is most
of the difference between seeds. So if the interval over seeds is narrower than the rest alone, that is luck, and it is
widened to the rest.

- The half-widths of the two parts add in quadrature (Howe 1974, JASA 69:789). So the result is never narrower than the
  interval over seeds. With Satterthwaite's degrees of freedom it can be, and they also claim too much: two equal rows
  differ in 10 % of tables with two seeds and 8 % with three; here, in 1 % and 3 % (tests/test_images.py).
- All methods' intervals hold jointly: Sidak 1967 (JASA 62:626), valid for any correlation between them.
- Images are assumed to be drawn independently. A test set with equally many images per class varies a little less; one
  with near-duplicates, more.
"""

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from kdexp.report.comparing.agreement import labels_of
from kdexp.report.comparing.multivariate_t import LEVEL
from kdexp.report.reading.arrays import right
from kdexp.report.reading.settings import BASELINE

COLUMNS = ("low_images", "high_images", "images_alone", "images_lasting", "test_images")
# a run -> which test images it got right, (N,) booleans, or None if unknown
Right = Callable[[dict], np.ndarray | None]


@dataclass(frozen=True)
class Parts:
    """Variances of a mean difference, in points squared; rest is NaN with one seed."""

    alone: float
    rest: float

    @property
    def lasting(self) -> float:
        """The part that does not shrink with more seeds."""
        return max(self.alone - self.rest, 0) if np.isfinite(self.rest) else np.nan


def parts(differences: np.ndarray) -> Parts:
    """differences: (seeds, images), points."""
    seeds, images = differences.shape
    means = differences.mean(0)
    alone = means.var(ddof=1) / images
    if seeds < 2:
        return Parts(alone, np.nan)
    rest = differences - means - differences.mean(1, keepdims=True) + means.mean()
    return Parts(alone, (rest**2).sum() / ((seeds - 1) * (images - 1)) / (seeds * images))


def bound(images: int, methods: int) -> float:
    """How many standard errors of the images' part cover all methods jointly at 95 %."""
    return stats.t.isf((1 - (1 - LEVEL) ** (1 / methods)) / 2, images - 1)


def widened(half: float, variances: Parts, standard_errors: float) -> float:
    """Half-width over seeds -> half-width over seeds and images."""
    squared = standard_errors**2
    return np.sqrt(max(half**2, squared * variances.rest) + squared * variances.lasting)


def from_records(runs: pd.DataFrame, data: str | None) -> Right:
    """Reads right.npy of each run; if there is none, compares its predictions with the labels of its data set in `data`.
    If these cannot be read, prints why to stderr, once."""

    sums = dict(zip(runs.folder, runs.sha256)) if "sha256" in runs else {}  # a notebook's own frame may lack them

    @functools.cache
    def labels(dataset: str) -> np.ndarray | None:
        try:
            return labels_of(runs[runs.dataset == dataset].iloc[0], data)
        except ValueError as error:
            print(f"not over images: {error}", file=sys.stderr)
            return None

    def of_run(run: dict) -> np.ndarray | None:
        known = right(run["folder"], run["value"], sums=sums.get(run["folder"]))
        if known is None and data and "dataset._target_" in runs:
            return right(run["folder"], run["value"], labels(run["dataset"]), sums.get(run["folder"]))
        return known

    return of_run


def over_images(rows: list[dict], groups: list[list[dict]], known: Right | None) -> None:
    """Add in place what is known over images about a block's methods against its baseline; NaN if nothing is.

    groups: the runs of each row. known: None if the numbers are not accuracies over seeds.
    """
    for row in rows:
        row |= dict.fromkeys(COLUMNS, np.nan)
    reference = [index for index, row in enumerate(rows) if row["distill"] == BASELINE]
    methods = [index for index, row in enumerate(rows) if row["distill"] != BASELINE and row["ranked"]]
    if known is None or len(reference) != 1 or not methods:
        return
    baseline = _by_unit(groups[reference[0]], known)
    for index in methods:
        own = _by_unit(groups[index], known)
        differences = _differences(own, baseline) if own and baseline else None
        if differences is not None and differences.shape[1] > 1:
            rows[index] |= _numbers(rows[index], parts(differences), differences.shape[1], len(methods))


def _by_unit(runs: list[dict], known: Right) -> dict[str, np.ndarray] | None:
    """Seed -> right or wrong; None unless it is known for every run that has a value."""
    by_unit = {run["unit"]: known(run) for run in runs if np.isfinite(run["value"])}
    return None if any(bits is None for bits in by_unit.values()) else by_unit


def _differences(own: dict[str, np.ndarray], baseline: dict[str, np.ndarray]) -> np.ndarray | None:
    """(shared seeds, images) in points; None if they share no seed or were evaluated on different images."""
    shared = [unit for unit in own if unit in baseline]
    if not shared or len({len(bits) for bits in (*own.values(), *baseline.values())}) > 1:
        return None
    return 100.0 * np.array([own[unit].astype(np.int8) - baseline[unit] for unit in shared])


def _numbers(row: dict, variances: Parts, images: int, methods: int) -> dict:
    """The columns of one method. If it never differs from the baseline on any image, nothing is claimed: seeing no
    difference on these images does not prove that there is none."""
    if not variances.alone > 0:
        return {"test_images": images}
    errors = bound(images, methods)
    numbers = {
        "test_images": images,
        "images_alone": errors * np.sqrt(variances.alone),
        "images_lasting": errors * np.sqrt(variances.lasting),
    }
    if np.isfinite(row["low"]) and np.isfinite(variances.rest):
        numbers["low_images"] = row["gain"] - widened(row["gain"] - row["low"], variances, errors)
        numbers["high_images"] = row["gain"] + widened(row["high"] - row["gain"], variances, errors)
    return numbers
