"""Augmentation of a training batch after crop and flip; one file per operation, one yaml in conf/augment per choice."""

from torch import Tensor


class Augmentation:
    """An operation on a whole batch, on its device: on its pixels, or on what the networks see. What it draws from torch's
    generator depends only on (seed, epoch, step), so teacher and students see the same view, alone, in a group, and after
    resuming.

    mixes: whether images of a batch are mixed. Their labels are then (batch, classes), the proportion of each class, and
    a method that needs one class per image (`hard_labels`) is rejected before any training.
    """

    mixes = False

    def __init__(self, num_classes: int):
        self.num_classes = num_classes

    def pixels(self, images: Tensor) -> Tensor:
        """images (batch, channels, H, W), whole numbers 0..255 after crop and flip -> the same."""
        return images

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """images (batch, channels, H, W) normalized, labels (batch,) -> the same, or with labels (batch, classes)."""
        return images, labels
