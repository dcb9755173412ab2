"""Whether a run's batches work, which depends on the number of its images: checked before anything is trained."""

import functools
import json

import torch

from kdexp.config.targets import ShapesOnly
from kdexp.errors import UsageError
from kdexp.experiment.networks import build_network


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
    data, trained_here = config["dataset"], not config["teacher_checkpoint"]
    nodes = config["model"]["student"], trained_here and config["model"]["teacher"]
    shape = data["channels"], data["image_size"], data["image_size"]
    for node in filter(None, nodes):
        if not _takes_one(json.dumps(node), tuple(config["plugins"]), shape):
            raise UsageError(
                f"batch_size={size}: of {images} training images, one is left for the last batch, and {node['name']} cannot "
                f"normalize a single value per channel. Choose {_fitting(size, images)}"
            )


def _fitting(size: int, images: int) -> str:
    """The nearest batch sizes without a last batch of one."""
    fits = [other for other in range(2, images + 1) if images % other != 1]
    near = [max((other for other in fits if other < size), default=None), min(other for other in fits if other > size)]
    return " or ".join(f"batch_size={other}" for other in near if other)


@functools.cache
def _takes_one(node: str, plugins: tuple[str, ...], shape: tuple[int, int, int]) -> bool:
    """Whether a network can be trained on a single image of this shape."""
    with torch.device("meta"), ShapesOnly(), torch.no_grad():
        try:
            build_network(json.loads(node), plugins).train()(torch.empty(1, *shape))
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            return False
    return True
