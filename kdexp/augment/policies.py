"""TrivialAugment (wide): Mueller & Hutter 2021, arXiv:2103.10158. RandAugment: Cubuk et al. 2020, arXiv:1909.13719.
AutoAugment with its CIFAR-10 policies: Cubuk et al. 2019, arXiv:1805.09501.

Operation and amount are drawn for each image separately. Search spaces and policies are torchvision's (v2), with the same
distribution. Differs from the papers: (1) applied after crop and flip; in the papers before.
"""

import torch
from torch import Tensor
from torchvision.transforms import AutoAugmentPolicy, v2

from kdexp.augment import Augmentation
from kdexp.augment.cutout import Cutout
from kdexp.augment.operations import OPERATIONS, apply

NAMES = list(OPERATIONS)
SIGNED = torch.tensor([name in NAMES[1:10] for name in NAMES])  # shears to sharpness


def levels(bins: int, shear: float, translate: float, degrees: float, blend: float, bits: int) -> Tensor:
    """The amounts of every operation, weakest first: (operations, bins). translate: pixels. bits: the most that posterize
    removes."""
    rise = {"ShearX": shear, "ShearY": shear, "TranslateX": translate, "TranslateY": translate, "Rotate": degrees}
    rise |= dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), blend)
    table = torch.zeros(len(NAMES), bins)
    for name, most in rise.items():
        table[NAMES.index(name)] = torch.linspace(0.0, most, bins)
    table[NAMES.index("Posterize")] = (8 - torch.arange(bins) / ((bins - 1) / bits)).round()
    table[NAMES.index("Solarize")] = torch.linspace(1.0, 0.0, bins)
    return table


def narrow(bins: int, side: int) -> Tensor:
    """AutoAugment's and RandAugment's amounts for images of this side."""
    return levels(bins, shear=0.3, translate=150 / 331 * side, degrees=30.0, blend=0.9, bits=4)


class Policy(Augmentation):
    """Operations on the pixels, before they are normalized. cutout: side of the squares cut out afterwards, as a fraction
    of the image's side; 0 for none."""

    def __init__(self, num_classes: int, cutout: float = 0.0):
        super().__init__(num_classes)
        self.cutout = Cutout(num_classes, cutout) if cutout else None

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return self.cutout(images, labels) if self.cutout else (images, labels)

    def pixels(self, images: Tensor) -> Tensor:
        images = images.to(torch.uint8)
        for which, amounts in self.draw(len(images), images.shape[3]):
            sign = torch.where(SIGNED[which] & (torch.rand(len(images)) <= 0.5), -1.0, 1.0)
            images = apply(images, which, amounts * sign)
        return images

    def draw(self, count: int, side: int) -> list[tuple[Tensor, Tensor]]:
        """For each operation in the sequence: (numbers in OPERATIONS, amounts without sign), (count,) each."""
        raise NotImplementedError


class TrivialAugment(Policy):
    """One random operation with a random amount."""

    def draw(self, count: int, side: int) -> list[tuple[Tensor, Tensor]]:
        table = levels(31, shear=0.99, translate=32.0, degrees=135.0, blend=0.99, bits=6)
        which = torch.randint(NAMES.index("Invert"), (count,))
        return [(which, table[which, torch.randint(31, (count,))])]


class RandAugment(Policy):
    """operations: how many in sequence. magnitude: the level of all of them, 0 to 30."""

    def __init__(self, num_classes: int, operations: int = 2, magnitude: int = 9, cutout: float = 0.0):
        super().__init__(num_classes, cutout)
        if magnitude not in range(31):
            raise ValueError(f"magnitude={magnitude}: must be a whole number from 0 to 30. augment.magnitude=9")
        if type(operations) is not int or operations < 1:
            raise ValueError(f"operations={operations}: must be a whole number, 1 or more. augment.operations=2")
        self.operations, self.magnitude = operations, magnitude

    def draw(self, count: int, side: int) -> list[tuple[Tensor, Tensor]]:
        table = narrow(31, side)[:, self.magnitude]
        rows = torch.randint(NAMES.index("Invert"), (self.operations, count))
        return [(which, table[which]) for which in rows]


class AutoAugment(Policy):
    """One of 25 pairs of operations, each with its level and its probability."""

    def __init__(self, num_classes: int, cutout: float = 0.0):
        super().__init__(num_classes, cutout)
        policies = v2.AutoAugment(AutoAugmentPolicy.CIFAR10)._policies  # torchvision has no public access to these
        self.which = torch.tensor([[NAMES.index(name) for name, _, _ in pair] for pair in policies])  # (25, 2)
        self.chances = torch.tensor([[chance for _, chance, _ in pair] for pair in policies])
        self.level = torch.tensor([[level or 0 for _, _, level in pair] for pair in policies])

    def draw(self, count: int, side: int) -> list[tuple[Tensor, Tensor]]:
        chosen, table, rows = torch.randint(len(self.which), (count,)), narrow(10, side), []
        for step in (0, 1):
            happens = torch.rand(count) <= self.chances[chosen, step]
            which = torch.where(happens, self.which[chosen, step], NAMES.index("Identity"))
            rows.append((which, table[which, self.level[chosen, step]]))
        return rows
