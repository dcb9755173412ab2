"""Which test images a run got right."""

import os
from pathlib import Path

import numpy as np

from analysis.reading.records import predictions
from kdexp.record import seal


def right(folder: str | os.PathLike, accuracy: float, labels: np.ndarray | None = None) -> np.ndarray | None:
    """(N,) booleans, from right.npy, or from predictions.npy and the test set's labels. None where neither is there
    and whole, or where their mean is not the accuracy (percent) that the run recorded."""
    if labels is None and not Path(folder, "right.npy").exists():
        return None  # before anything is read: older records have none, and there may be thousands
    classes = predictions(folder)
    if classes is None or not len(classes):
        return None
    found = _kept(folder, len(classes))
    if found is None and labels is not None and len(classes) <= len(labels):
        found = classes == labels[: len(classes)]  # dataset.limit_test scores the first N
    return found if found is not None and abs(found.sum() - accuracy / 100 * len(found)) < 0.5 else None


def _kept(folder: str | os.PathLike, count: int) -> np.ndarray | None:
    if "right.npy" in seal.damaged(Path(folder), ("right.npy",)):
        return None
    try:
        bits = np.load(Path(folder, "right.npy"), allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    fits = bits.dtype == np.uint8 and bits.shape == (-(-count // 8),)
    return np.unpackbits(bits, count=count).astype(bool) if fits else None
