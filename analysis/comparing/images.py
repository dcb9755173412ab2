"""The test images are a sample too: what a gain would be over other seeds and other images of the same kind.

Right is 100, wrong is 0, so that means are points. A method less its baseline, on the same seed and the same image:

    difference = gain + seed + image + rest        (a two-way layout with one value in each cell, both ways random)

The mean over S seeds and N images has the variance seed/S + image/N + rest/(S N). Three numbers are counted from the
differences (Searle, Casella & McCulloch 1992, Variance Components, chapter 4):

    the variance of the S means over images, / S     estimates   seed/S + rest/(S N)     what intervals over seeds hold
    the variance of the N means over seeds, / N      estimates   image/N + rest/(S N)    `alone`
    the residual mean square, / (S N)                estimates   rest/(S N)              `rest`

The sum of the first two has the rest twice, so what images add to the interval over seeds is alone - rest. It does not
shrink with the number of seeds. One seed gives `alone` only: a lower bound of the noise, as the seeds' own part is missing.
That images are to be counted, and in pairs: Miller 2024 (arXiv:2411.00640, section on paired differences). That the rest, errors
which fall on other images in each run, is most of what differs between seeds after long training: Jordan 2024 (ICLR,
arXiv:2304.01910); an interval over seeds that is narrower than the rest alone is luck, and is widened to it.

- Half-widths of the two parts add as squares (Howe 1974, JASA 69:789). So it is never narrower than the interval over seeds, as it
  may be with Satterthwaite's degrees of freedom, which also promise too much: of two equal rows, tables with two seeds show
  a difference in 10 %, with three in 8 %; here in 1 % and 3 % (tests/test_images.py).
- All methods' intervals hold together: Sidak 1967 (JASA 62:626), right for any correlation between them.
- Images are taken as drawn independently. A test set with equally many of each class varies a little less, one with near copies more.
"""

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from analysis.comparing.agreement import labels_of
from analysis.comparing.multivariate_t import LEVEL
from analysis.reading.bits import right
from analysis.reading.settings import BASELINE

COLUMNS = ("low_images", "high_images", "images_alone", "images_lasting", "test_images")
Right = Callable[
    [dict], np.ndarray | None
]  # a run -> which test images it got right, (N,) booleans, where that is known


@dataclass(frozen=True)
class Parts:
    """Variances of a mean difference, in points squared; rest is NaN for one seed."""

    alone: float
    rest: float

    @property
    def lasting(self) -> float:
        """What no number of seeds shrinks."""
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
    """How many standard errors of the images' part hold for all methods together with 95 %."""
    return stats.t.isf((1 - (1 - LEVEL) ** (1 / methods)) / 2, images - 1)


def widened(half: float, found: Parts, standard_errors: float) -> float:
    """Half an interval over seeds -> half of that over seeds and images."""
    squared = standard_errors**2
    return np.sqrt(max(half**2, squared * found.rest) + squared * found.lasting)


def from_records(runs: pd.DataFrame, data: str | None) -> Right:
    """From right.npy of each run; where there is none, from its predictions and the labels of its data set below `data`.
    What cannot be read there is said once on stderr."""

    @functools.cache
    def labels(dataset: str) -> np.ndarray | None:
        try:
            return labels_of(runs[runs.dataset == dataset].iloc[0], data)
        except ValueError as error:
            print(f"not over images: {error}", file=sys.stderr)

    def one(run: dict) -> np.ndarray | None:
        found = right(run["folder"], run["value"])
        if found is None and data and "dataset._target_" in runs:
            return right(run["folder"], run["value"], labels(run["dataset"]))
        return found

    return one


def over_images(rows: list[dict], groups: list[list[dict]], known: Right | None) -> None:
    """Add, in place, what is known over images of a block's methods against its baseline; NaN where nothing is.

    groups: the runs of each row. known: None where the numbers are no accuracies over seeds.
    """
    for row in rows:
        row |= dict.fromkeys(COLUMNS, np.nan)
    control = [index for index, row in enumerate(rows) if row["distill"] == BASELINE]
    methods = [index for index, row in enumerate(rows) if row["distill"] != BASELINE and row["ranked"]]
    if known is None or len(control) != 1 or not methods:
        return
    baseline = _by_unit(groups[control[0]], known)
    for index in methods:
        own = _by_unit(groups[index], known)
        differences = _differences(own, baseline) if own and baseline else None
        if differences is not None and differences.shape[1] > 1:
            rows[index] |= _numbers(rows[index], parts(differences), differences.shape[1], len(methods))


def _by_unit(runs: list[dict], known: Right) -> dict[str, np.ndarray] | None:
    """Seed -> right or wrong; None unless it is known of every run that has a value."""
    found = {run["unit"]: known(run) for run in runs if np.isfinite(run["value"])}
    return None if any(bits is None for bits in found.values()) else found


def _differences(own: dict[str, np.ndarray], baseline: dict[str, np.ndarray]) -> np.ndarray | None:
    """(shared seeds, images) in points; None without a shared seed or where they were scored on different images."""
    shared = [unit for unit in own if unit in baseline]
    if not shared or len({len(bits) for bits in (*own.values(), *baseline.values())}) > 1:
        return None
    return 100.0 * np.array([own[unit].astype(np.int8) - baseline[unit] for unit in shared])


def _numbers(row: dict, found: Parts, images: int, methods: int) -> dict:
    """The columns of one method. Without one image on which it differs from the baseline nothing is claimed: no
    difference in so many images is no proof that there is none."""
    if not found.alone > 0:
        return {"test_images": images}
    errors = bound(images, methods)
    known = np.isfinite(row["low"]) and np.isfinite(found.rest)
    return {
        "test_images": images,
        "images_alone": errors * np.sqrt(found.alone),
        "images_lasting": errors * np.sqrt(found.lasting),
        "low_images": row["gain"] - widened(row["gain"] - row["low"], found, errors) if known else np.nan,
        "high_images": row["gain"] + widened(row["high"] - row["gain"], found, errors) if known else np.nan,
    }
