"""Cutout: DeVries & Taylor 2017, "Improved Regularization of Convolutional Neural Networks with Cutout", section 3.

A square around a random pixel becomes 0, the mean of the normalized images. Squares are clipped at the image border.
"""

import torch
from torch import Tensor

from kdexp.augment import Augmentation


class Cutout(Augmentation):
    """size: the side of the square as a fraction of the image's side, rounded down to an even number of pixels."""

    def __init__(self, num_classes: int, size: float = 0.25):
        super().__init__(num_classes)
        if not 0 < size <= 2:
            raise ValueError(f"size={size}: must be above 0 and at most 2 times the image's side. augment.size=0.25")
        self.size = size

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        batch, _, height, width = images.shape
        rows = self._covered(batch, height, images.device)[:, None, :, None]
        columns = self._covered(batch, width, images.device)[:, None, None, :]
        return images.masked_fill(rows & columns, 0.0), labels

    def _covered(self, batch: int, side: int, device: torch.device) -> Tensor:
        """(batch, side): which rows, or columns, the squares cover."""
        half = int(self.size * side / 2)
        centres = torch.randint(side, (batch, 1)).to(device, non_blocking=True)
        distance = torch.arange(side, device=device) - centres
        return (distance >= -half) & (distance < half)
