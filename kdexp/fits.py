"""Whether a run's batches work, which depends on the number of its images: checked before anything is trained."""

import functools
import json

import torch

from kdexp.config.schema import UsageError
from kdexp.config.targets import ShapesOnly
from kdexp.experiment import build_network


def check_batches(config: dict, images: int) -> None:
    """Raise UsageError if a run on this many training images cannot be split into its batches: they are fewer than a batch,
    or the last batch is a single image and a network cannot normalize a single value. A last batch of several is fine."""
    size = config["batch_size"]
    if size > images:
        raise UsageError(
            f"batch_size={size}: there are only {images} training images, so an epoch would be one step. "
            f"Choose at most batch_size={images}"
        )
    if size != 1 and images % size != 1:
        return
    model, trained_here = config["model"], not config["teacher_checkpoint"]
    for node in filter(None, (model["student"], trained_here and model["teacher"])):
        if not _takes_one(
            json.dumps([node, config["plugins"], config["dataset"]["image_size"], config["dataset"]["channels"]])
        ):
            below, above = (
                next(b for b in some if images % b != 1) for some in (range(size, 0, -1), range(size, size + images))
            )
            fitting = f"batch_size={above}" if below < 2 else f"batch_size={below} or batch_size={above}"
            raise UsageError(
                f"batch_size={size}: of {images} training images, one is left for the last batch, and {node['name']} cannot "
                f"normalize a single value per channel. Choose {fitting}"
            )


@functools.cache
def _takes_one(network: str) -> bool:
    """Whether a network can be trained on a single image."""
    node, plugins, size, channels = json.loads(network)
    with torch.device("meta"), ShapesOnly(), torch.no_grad():
        try:
            build_network(node, plugins).train()(torch.empty(1, channels, size, size))
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            return False
    return True
