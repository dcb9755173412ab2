"""Digits: 1,797 scanned handwritten digits, 8x8 (Alpaydin & Kaynak 1998, UCI), embedded in scikit-learn: nothing to
download."""

from pathlib import Path

import torch
from sklearn.datasets import load_digits

from kdexp.datasets import Images


def digits(root: str | Path | None = None) -> tuple[Images, Images]:
    """1,297 training and 500 test scans in 10 classes, (N, 3, 8, 8) with three equal channels.

    The split is the same every time: a permutation from a fixed seed, so that writers are mixed. `root` is not used.
    """
    scans, labels = load_digits(return_X_y=True)  # 0..16 grey levels
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    images = torch.from_numpy(scans).mul(255 / 16).round().to(torch.uint8).view(-1, 1, 8, 8).repeat(1, 3, 1, 1)[order]
    labels = torch.from_numpy(labels).long()[order]
    return Images(images[:1297], labels[:1297]), Images(images[1297:], labels[1297:])
