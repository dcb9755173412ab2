"""Networks from timm (an optional dependency), by their names in timm."""

from functools import partial

from kdexp.errors import needed
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
    """arch: any of timm.list_models(), untrained. stem, taps, in_channels: see `adapted`. Raises ValueError."""
    timm = needed("timm")
    check_name(arch, timm.list_models(), "timm")
    return adapted(partial(timm.create_model, arch), num_classes, image_size, stem, taps, in_channels)
