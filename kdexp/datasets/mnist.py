"""MNIST (LeCun, Cortes & Burges 1998), downloaded and md5-checked by torchvision."""

from pathlib import Path

import torchvision.datasets

from kdexp.datasets import Images
from kdexp.datasets.download import get

# md5 of the unpacked files; torchvision's checksums are of the archives
FILES = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


def mnist(root: str | Path) -> tuple[Images, Images]:
    """60,000 training and 10,000 test images (N, 1, 28, 28) of ten digits, from `root`/MNIST/raw. Raises
    DatasetError."""
    source, root = torchvision.datasets.MNIST, Path(root)
    files = {root / "MNIST" / "raw" / name: md5 for name, md5 in FILES.items()}
    get(root, source.mirrors[0], files, lambda: source(root, download=True))
    return _tensors(source(root, train=True)), _tensors(source(root, train=False))


def _tensors(split: torchvision.datasets.MNIST) -> Images:
    return Images(split.data[:, None].contiguous(), split.targets)
