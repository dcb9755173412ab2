"""The logits of a run's network on each test image."""

import os
from pathlib import Path

import numpy as np

from kdexp.record import seal


def logits(folder: str | os.PathLike) -> np.ndarray | None:
    """(N, classes) float64 after the last epoch, from logits.npy (float16); None if the file is missing, corrupt, or not
    finite. Records from before `keep_logits`, and packs made without weights, have none."""
    path = Path(folder, "logits.npy")
    if not path.exists() or "logits.npy" in seal.damaged(path.parent, ("logits.npy",)):
        return None
    try:
        kept = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    whole = kept.ndim == 2 and kept.size and np.issubdtype(kept.dtype, np.floating) and np.isfinite(kept).all()
    return kept.astype(np.float64) if whole else None
