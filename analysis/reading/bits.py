"""Which test images a run got right."""

import os
from pathlib import Path

import numpy as np

from analysis.reading.records import array
from kdexp.record import seal


def right(folder: str | os.PathLike, accuracy: float, labels: np.ndarray | None = None) -> np.ndarray | None:
    """(N,) booleans, from right.npy, or from predictions.npy and the test set's labels. None if both are missing or
    corrupt, or if their mean is not the accuracy (percent) that the run recorded."""
    if labels is None and not Path(folder, "right.npy").exists():
        return None  # check before reading: older records have none, and there may be thousands
    broken = seal.damaged(Path(folder), ("predictions.npy", "right.npy"))
    classes = None if "predictions.npy" in broken else array(folder, "predictions.npy")
    if classes is None or not len(classes):
        return None
    found = None if "right.npy" in broken else _kept(folder, len(classes))
    if found is None and labels is not None and len(classes) <= len(labels):
        found = classes == labels[: len(classes)]  # dataset.limit_test scores the first N
    return found if found is not None and abs(found.sum() - accuracy / 100 * len(found)) < 0.5 else None


def _kept(folder: str | os.PathLike, count: int) -> np.ndarray | None:
    bits = array(folder, "right.npy")
    fits = bits is not None and bits.dtype == np.uint8 and bits.shape == (-(-count // 8),)
    return np.unpackbits(bits, count=count).astype(bool) if fits else None
