"""Networks from torchvision, by their names in torchvision."""

from functools import partial

from torchvision import models

from kdexp.models import Wrapped
from kdexp.models.small_images import adapted, check_name


def network(
    arch: str,
    num_classes: int = 100,
    image_size: int = 32,
    stem: str = "small",
    taps: dict | None = None,
    in_channels: int = 3,
) -> Wrapped:
    """arch: any of torchvision.models.list_models(torchvision.models), untrained. stem, taps, in_channels: see
    `adapted`. Raises ValueError."""
    check_name(arch, models.list_models(models), "torchvision")
    return adapted(partial(models.get_model, arch, weights=None), num_classes, image_size, stem, taps, in_channels)
