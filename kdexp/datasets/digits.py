"""Digits: 1,797 scanned handwritten digits, 8x8 (Alpaydin & Kaynak 1998, UCI), bundled with scikit-learn: nothing to
download."""

from pathlib import Path

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

from kdexp.datasets import Images


def digits(root: str | Path | None = None, size: int = 8) -> tuple[Images, Images]:
    """1,297 training and 500 test scans in 10 classes, (N, 3, size, size) with three equal channels.

    size: bilinear interpolation from 8 pixels to this many. The split is always the same: a permutation with a fixed
    seed, which mixes the writers. `root` is not used.
    """
    scans, labels = load_digits(return_X_y=True)  # 0..16 gray levels
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    scans = torch.from_numpy(scans).mul(255 / 16).view(-1, 1, 8, 8)
    if size != 8:
        scans = F.interpolate(scans, (size, size), mode="bilinear")
    images = scans.round().to(torch.uint8).repeat(1, 3, 1, 1)[order]
    labels = torch.from_numpy(labels).long()[order]
    return Images(images[:1297], labels[:1297]), Images(images[1297:], labels[1297:])
