"""Data sets as two tensors each: images (N, channels, H, W) uint8 and labels (N,) int64."""

from typing import NamedTuple

import torch
from torch import Tensor


class Images(NamedTuple):
    """images (N, channels, H, W) uint8, labels (N,) int64."""

    images: Tensor
    labels: Tensor

    def to(self, device: torch.device) -> "Images":
        return Images(self.images.to(device), self.labels.to(device))

    def first(self, count: int | None) -> "Images":
        """The first `count` images; all for None."""
        return Images(self.images[:count], self.labels[:count])


class DatasetError(Exception):
    """The data are missing or wrong."""


def without_classes(data: Images, classes: list[int]) -> Images:
    """The images of all other classes, in the same order. A copy in memory, even of memory-mapped images."""
    kept = ~torch.isin(data.labels, torch.tensor(classes))
    return Images(data.images[kept], data.labels[kept])


def split_validation(train: Images, count: int) -> tuple[Images, Images]:
    """Hold out `count` images, stratified by class, always the same ones: (the rest, the held out).

    Each class gives the fraction count / N, rounded so that the sum is `count`: the classes with the largest remainders
    give one more. Both parts are copies in memory, even of memory-mapped images.
    """
    labels = train.labels
    generator = torch.Generator().manual_seed(0)
    shuffled = torch.randperm(len(labels), generator=generator)
    share = torch.bincount(labels).double() * count / len(labels)
    quota = share.floor().long()
    quota[(quota - share).argsort(stable=True)[: count - int(quota.sum())]] += 1
    held = torch.cat([shuffled[labels[shuffled] == label][:number] for label, number in enumerate(quota)])
    keep = torch.ones(len(labels), dtype=torch.bool)
    keep[held] = False
    return Images(train.images[keep], labels[keep]), Images(train.images[~keep], labels[~keep])
