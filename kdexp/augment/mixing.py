"""mixup: Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", equation 1. CutMix: Yun et al. 2019, "CutMix:
Regularization Strategy to Train Strong Classifiers with Localizable Features", equations 1 and 2.

    x = l * x_a + (1 - l) * x_b,  y = l * y_a + (1 - l) * y_b,  l ~ Beta(alpha, alpha), once for each batch

CutMix pastes a box of x_b, with area 1 - l before it is clipped at the border, and recomputes l from the clipped area.
Both are torchvision's own transforms; b is the neighbor in the shuffled batch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms import v2

from kdexp.augment import Augmentation


class Mixing(Augmentation):
    """probability: that a batch is mixed; other batches keep their images, with labels of the same form."""

    mixes = True
    transform: type

    def __init__(self, num_classes: int, alpha: float = 1.0, probability: float = 1.0):
        super().__init__(num_classes)
        if not alpha > 0:
            raise ValueError(
                f"alpha={alpha}: must be greater than 0. augment.alpha=1 draws every proportion equally often"
            )
        if not 0 <= probability <= 1:
            raise ValueError(f"probability={probability}: must be from 0 to 1. augment.probability=1 mixes every batch")
        self.probability = probability
        self.mix = self.transform(alpha=float(alpha), num_classes=num_classes)

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        if torch.rand(()) < self.probability:
            return self.mix(images, labels)
        return images, F.one_hot(labels, self.num_classes).float()


class MixUp(Mixing):
    transform = v2.MixUp


class CutMix(Mixing):
    transform = v2.CutMix
