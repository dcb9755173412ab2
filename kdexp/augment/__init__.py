"""What is done to a training batch behind crop and flip; one file per operation, one yaml in conf/augment per choice."""

from torch import Tensor


class Augmentation:
    """An operation on a whole batch, on its device: on its pixels, or on what the networks see. What it draws from torch's
    generator follows from (seed, epoch, step), so that teacher and students see the same view, alone as in a group, and
    after a stop.

    mixes: whether images of a batch are mixed. Their labels are then (batch, classes), the share of each class, and a
    method that needs one class for each image (`hard_labels`) is refused before anything is trained.
    """

    mixes = False

    def __init__(self, num_classes: int):
        self.num_classes = num_classes

    def pixels(self, images: Tensor) -> Tensor:
        """images (batch, 3, H, W), whole numbers 0..255 behind crop and flip -> the same."""
        return images

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """images (batch, 3, H, W) normalised, labels (batch,) -> the same, or with labels (batch, classes)."""
        return images, labels
