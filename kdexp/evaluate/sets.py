"""Other test sets for CIFAR networks, by name, from the files that their authors publish. Nothing is downloaded."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import torchvision.datasets

from kdexp.datasets import DatasetError, Images

# classes of STL-10 -> classes of CIFAR-10, which has no monkeys
STL_CLASSES = {1: 0, 2: 2, 3: 1, 4: 3, 5: 4, 6: 5, 7: 7, 9: 8, 10: 9}


def cifar10_1(root: Path) -> dict[str, Images]:
    """2,000 new images of CIFAR-10's classes (Recht et al. 2018, arXiv:1806.00451), version 6."""
    images, labels = (_array(root / f"cifar10.1_v6_{kind}.npy") for kind in ("data", "labels"))
    return {"cifar10.1": _images(images, labels)}


def cifar10_c(root: Path) -> dict[str, Images]:
    """CIFAR-10's test images corrupted in about nineteen ways, each at five severities (Hendrycks & Dietterich 2019,
    arXiv:1903.12261): one set per file."""
    return _corrupted(root / "CIFAR-10-C", "cifar10-c")


def cifar100_c(root: Path) -> dict[str, Images]:
    """The same for CIFAR-100."""
    return _corrupted(root / "CIFAR-100-C", "cifar100-c")


def svhn(root: Path) -> dict[str, Images]:
    """26,032 house numbers, classes 0 to 9 (Netzer et al. 2011), test_32x32.mat as torchvision reads it."""
    split = _torchvision(torchvision.datasets.SVHN, root)
    return {"svhn": Images(torch.from_numpy(split.data), torch.from_numpy(split.labels).long())}


def stl10(root: Path) -> dict[str, Images]:
    """STL-10's test images (Coates et al. 2011) at 32x32, averaged over 3x3 pixels; the nine classes of CIFAR-10."""
    split = _torchvision(torchvision.datasets.STL10, root)
    labels = torch.from_numpy(np.asarray(split.labels)).long() + 1
    kept = torch.isin(labels, torch.tensor([*STL_CLASSES]))
    to_cifar = torch.zeros(11, dtype=torch.int64)
    to_cifar[[*STL_CLASSES]] = torch.tensor([*STL_CLASSES.values()])
    images = torch.from_numpy(split.data)[kept].float()
    return {"stl10": Images(F.avg_pool2d(images, 3).round().byte(), to_cifar[labels[kept]])}


SETS: dict[str, Callable[[Path], dict[str, Images]]] = {
    "cifar10.1": cifar10_1,
    "cifar10-c": cifar10_c,
    "cifar100-c": cifar100_c,
    "svhn": svhn,
    "stl10": stl10,
}


def _array(path: Path) -> np.ndarray:
    if not path.exists():
        raise DatasetError(f"{path} does not exist. Get it from its authors; kdexp does not download it")
    try:
        return np.load(path)
    except ValueError as error:
        raise DatasetError(f"{path} cannot be read: {error}") from None


def _images(images: np.ndarray, labels: np.ndarray) -> Images:
    """From (N, H, W, 3) and (N,), as they are published."""
    return Images(torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(labels).long())


def _corrupted(folder: Path, name: str) -> dict[str, Images]:
    labels = _array(folder / "labels.npy")
    files = sorted(path for path in folder.glob("*.npy") if path.stem != "labels")
    if not files:
        raise DatasetError(f"{folder} holds labels.npy but no corruption, such as gaussian_noise.npy")
    return {f"{name}-{path.stem}": _images(_array(path), labels) for path in files}


def _torchvision(source, root: Path):
    try:
        return source(root, split="test", download=False)
    except RuntimeError as error:
        raise DatasetError(
            f"missing from {root}, or corrupt ({error}). Get it from its authors; kdexp does not download it"
        ) from None
