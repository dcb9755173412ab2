"""Batches from tensors that stay on the device: shuffle, pad-crop, flip and normalize are tensor operations on a
whole batch."""

import math
from collections.abc import Hashable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kdexp.augment import Augmentation
from kdexp.compute.randomness import generator, seeded
from kdexp.datasets import Images


class Pixels:
    """How uint8 pixels become numbers: (pixel / 255 - mean) / std per channel, on one device."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: torch.device | str = "cpu"):
        self.mean, self.std = (torch.tensor(tuple(values), device=device).view(1, -1, 1, 1) for values in (mean, std))

    def normalise(self, images: Tensor) -> Tensor:
        """images (batch, channels, H, W), 0..255 -> float32 of the same shape, channels last in memory."""
        return ((images / 255 - self.mean) / self.std).contiguous(memory_format=torch.channels_last)


class TrainBatches:
    """The training batches of one seed. `epoch(number)` draws a whole epoch's order, crops and flips from generators
    keyed by (seed, purpose, epoch), so any number of students can start an epoch at any step and see the same
    batches.

    padding: pixels added on each side before the crop to the original size, as RandomCrop(size, padding) does; 0 for
    none. padding_mode: "constant" (black) or "reflect". flip: mirror half of the images, as RandomHorizontalFlip does.
    augment: the augmentation of images and labels after crop and flip; it draws from torch's generator, seeded for each
    step.
    """

    def __init__(
        self,
        data: Images,
        pixels: Pixels,
        batch_size: int,
        seed: Hashable,
        padding: int,
        padding_mode: str,
        flip: bool,
        augment: Augmentation | None = None,
    ):
        self.data, self.pixels, self.batch_size, self.seed = data, pixels, batch_size, seed
        self.padding, self.padding_mode, self.flip = padding, padding_mode, flip
        self.augment = augment

    def __len__(self) -> int:
        return math.ceil(len(self.data.labels) / self.batch_size)

    def epoch(self, number: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Normalized images (batch, channels, H, W), their labels (batch,) and their positions in the training set (batch,),
        from step `start` on; the last batch may be smaller. Labels are (batch, classes) if `augment` mixes images."""
        count, device = len(self.data.labels), self.data.labels.device
        order = torch.randperm(count, generator=generator(self.seed, "order", number)).to(device)
        draws = generator(self.seed, "augment", number)
        shifts = torch.randint(0, 2 * self.padding + 1, (count, 2), generator=draws).to(device)
        mirrored = (torch.rand(count, generator=draws) < (0.5 if self.flip else 0.0)).to(device)
        for step in range(start, len(self)):
            part = slice(step * self.batch_size, (step + 1) * self.batch_size)
            chosen = order[part]
            images = crop_and_flip(
                self.data.images[chosen], shifts[part], mirrored[part], self.padding, self.padding_mode
            )
            yield *self._view(images, self.data.labels[chosen], number, step), chosen

    def _view(self, images: Tensor, labels: Tensor, number: int, step: int) -> tuple[Tensor, Tensor]:
        """Pixels after crop and flip -> what the networks see, and its labels."""
        if self.augment is None:
            return self.pixels.normalise(images), labels
        with seeded(self.seed, "view", number, step):
            images, labels = self.augment(self.pixels.normalise(self.augment.pixels(images)), labels)
        return images.contiguous(memory_format=torch.channels_last), labels


def crop_and_flip(images: Tensor, shifts: Tensor, mirrored: Tensor, padding: int, padding_mode: str) -> Tensor:
    """Pad each image by `padding`, cut out the original size at row and column `shifts` (batch, 2), mirror where
    `mirrored`.

    images (batch, channels, H, W) of any dtype -> float32 of the same shape.
    """
    batch, _, height, width = images.shape
    padded = F.pad(images.float(), (padding,) * 4, mode=padding_mode)
    rows = shifts[:, :1] + torch.arange(height, device=images.device)  # (batch, H)
    columns = torch.arange(width, device=images.device).expand(batch, width)
    columns = shifts[:, 1:] + torch.where(mirrored[:, None], columns.flip(1), columns)  # (batch, W)
    sample = torch.arange(batch, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[sample, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
