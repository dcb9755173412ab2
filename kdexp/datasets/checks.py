"""What the images of a data set must be, checked once, before anything is trained on them."""

import torch

from kdexp.datasets import DatasetError, Images


def check_images(node: dict, **parts: Images) -> None:
    """Raise DatasetError for images that are not as a `dataset` node says. parts: train and test."""
    classes, size, channels = (node[key] for key in ("num_classes", "image_size", "channels"))
    for part, (images, labels) in parts.items():
        where = f"the {part} images"
        if images.dtype != torch.uint8 and not (images.is_floating_point() and images.max() > 1):
            raise DatasetError(
                f"{where} are {images.dtype}, and must be uint8 from 0 to 255: they are divided by 255 here. "
                "From floats in 0..1: (images * 255).round().to(torch.uint8)"
            )
        if images.dim() != 4 or images.shape[1:] != (channels, size, size):
            raise DatasetError(
                f"{where} have the shape {tuple(images.shape)}, and must be (N, {channels}, {size}, {size}), as "
                f"dataset.channels={channels} and dataset.image_size={size} say"
            )
        if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
            raise DatasetError(
                f"{where} have labels {tuple(labels.shape)} {labels.dtype}, and must have one int64 for each of {len(images)}"
            )
        if len(labels) and not (labels.min() >= 0 and labels.max() < classes):
            raise DatasetError(
                f"{where} have labels from {labels.min()} to {labels.max()}, and must have 0 to {classes - 1}, as "
                f"dataset.num_classes={classes} says"
            )
