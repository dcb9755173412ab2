"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) from the original files, downloaded and md5-checked by torchvision."""

from pathlib import Path

import torch
import torchvision.datasets
from torchvision.datasets import CIFAR10
from torchvision.datasets.utils import check_integrity

from kdexp.datasets import DatasetError, Images
from kdexp.datasets.download import get


def cifar10(root: str | Path) -> tuple[Images, Images]:
    """50,000 training and 10,000 test images in 10 classes, from `root`/cifar-10-batches-py. Raises DatasetError."""
    return _read(torchvision.datasets.CIFAR10, Path(root))


def cifar100(root: str | Path) -> tuple[Images, Images]:
    """50,000 training and 10,000 test images in 100 classes, from `root`/cifar-100-python. Raises DatasetError."""
    return _read(torchvision.datasets.CIFAR100, Path(root))


def _read(source: type[CIFAR10], root: Path) -> tuple[Images, Images]:
    folder, archive = root / source.base_folder, root / source.filename
    listed = [*source.train_list, *source.test_list, (source.meta["filename"], source.meta["md5"])]
    files = {folder / name: md5 for name, md5 in listed}

    def fetch():
        if archive.exists() and not check_integrity(archive, source.tgz_md5):
            raise DatasetError(
                f"{archive} is corrupt: its md5 is not the original's. Delete it and start again to download it again"
            )
        source(root, download=True)

    get(root, source.url, files, fetch, offline=archive.exists())
    return _tensors(source(root, train=True)), _tensors(source(root, train=False))


def _tensors(split: CIFAR10) -> Images:
    return Images(torch.from_numpy(split.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(split.targets))
