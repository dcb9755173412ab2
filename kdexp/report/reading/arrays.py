"""A run's answers on the test images: predicted classes, which are right, logits. Each is None if its file is missing,
unreadable, or not the one that result.json has the checksum of."""

import functools
import io
import math
import os
from pathlib import Path
from typing import Literal

import numpy as np

from kdexp.storage import seal


def predictions(folder: str | os.PathLike) -> np.ndarray | None:
    """The predicted class of each test image after the last epoch, (N,) uint8 or uint16."""
    return _array(folder, "predictions.npy", _checksums(folder))


def test_images(folder: str | os.PathLike) -> int:
    """How many test images a run was scored on; 0 if its predictions.npy is missing."""
    classes = predictions(folder)
    return 0 if classes is None else len(classes)


def logits(folder: str | os.PathLike) -> np.ndarray | None:
    """(N, classes) float64 after the last epoch, kept as float16; None also if they are not finite. Records from before
    `keep_logits`, and packs made without weights, have none."""
    if not Path(folder, "logits.npy").exists():
        return None
    kept = _array(folder, "logits.npy", _checksums(folder))
    whole = kept is not None and kept.ndim == 2 and kept.size and np.issubdtype(kept.dtype, np.floating)
    return kept.astype(np.float64) if whole and np.isfinite(kept).all() else None


def right(
    folder: str | os.PathLike, accuracy: float, labels: np.ndarray | None = None, sums: dict[str, str] | None = None
) -> np.ndarray | None:
    """Which images are classified correctly, (N,) booleans, from right.npy, or from predictions.npy and the test set's
    labels. None also if their mean is not the accuracy (percent) that the run recorded. sums: the checksums in its
    result.json, if that has been read."""
    sums = _checksums(folder) if sums is None else sums
    bits = _array(folder, "right.npy", sums)
    if bits is None and labels is None:
        return None  # before reading on: older records have none, and there may be thousands
    classes = _array(folder, "predictions.npy", sums)
    if classes is None or not len(classes):
        return None
    correct = _unpacked(bits, len(classes))
    if correct is None and labels is not None and len(classes) <= len(labels):
        correct = classes == labels[: len(classes)]  # dataset.limit_test scores the first N
    return correct if correct is not None and abs(correct.sum() - accuracy / 100 * len(correct)) < 0.5 else None


def _unpacked(bits: np.ndarray | None, count: int) -> np.ndarray | None:
    fits = bits is not None and bits.dtype == np.uint8 and bits.shape == (-(-count // 8),)
    return np.unpackbits(bits, count=count).astype(bool) if fits else None


def _checksums(folder: str | os.PathLike) -> dict[str, str]:
    return (seal.read_json(Path(folder, "result.json")) or {}).get("sha256", {})


def _array(folder: str | os.PathLike, name: str, sums: dict[str, str]) -> np.ndarray | None:
    try:
        with open(f"{os.fspath(folder)}/{name}", "rb") as file:  # a Path takes as long as reading the file
            content = file.read()
        if sums.get(name) in (None, seal.sha256(content)):
            shape, kind, order, start = _layout(content[: 10 + int.from_bytes(content[8:10], "little")])
            return np.frombuffer(content, kind, math.prod(shape), start).reshape(shape, order=order)
    except (OSError, ValueError):
        return None
    return None


@functools.cache
def _layout(header: bytes) -> tuple[tuple[int, ...], np.dtype, Literal["F", "C"], int]:
    """Shape, type, order and offset of the values, from the header of a .npy file. It is parsed once for thousands of runs:
    this takes longer than reading a file. Raises ValueError."""
    file = io.BytesIO(header)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("numpy writes other versions only for structured types")
    shape, by_columns, kind = np.lib.format.read_array_header_1_0(file)
    return shape, kind, "F" if by_columns else "C", file.tell()
