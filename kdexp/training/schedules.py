"""What changes over the epochs, as plain functions of the epoch: a run resumes exactly from anywhere, with no state to
save. torch.optim.lr_scheduler has the same curves (tested) but keeps them in the optimizer's groups."""

import math
from collections.abc import Callable, Sequence

SHAPES: dict[str, Callable[[float], float]] = {  # share of the epochs after the warm-up, 0 up to but not 1 -> factor
    "cosine": lambda share: (1 + math.cos(math.pi * share)) / 2,
    "linear": lambda share: 1 - share,
}
ROUNDING = 1e-9  # far below one epoch out of any number of epochs
STEP = "step"  # drops are at fractions of all epochs, with or without a warm-up


def learning_rate(
    epochs: int, schedule: str, drops: Sequence[float], drop_factor: float, warmup: float
) -> Callable[[int], float]:
    """epoch (from 0) -> factor of the peak learning rate.

    step: drop_factor for every fraction in `drops` that has passed. cosine, linear: from 1 after the warm-up to 0
    after the last epoch, like CosineAnnealingLR and LinearLR(1, 0) over the remaining epochs. warmup: the fraction of
    the epochs over which the rate rises in equal steps, from one step above 0: with n such epochs, 1/(n + 1), 2/(n +
    1), ...
    """
    warm = sum(epoch / epochs < warmup for epoch in range(epochs))

    def factor(epoch: int) -> float:
        rising = (epoch + 1) / (warm + 1) if epoch < warm else 1.0
        if schedule == STEP:
            return rising * drop_factor ** sum(epoch / epochs >= drop for drop in drops)
        return rising if epoch < warm else SHAPES[schedule]((epoch - warm) / (epochs - warm))

    return factor


def method_weight(epoch: int, epochs: int, until: float = 1.0, fade: float = 0.0, rise: float = 0.0) -> float:
    """The factor of a method's weight in an epoch (from 0): 0 from the fraction `until` of the epochs on.

    rise: the fraction over which it rises from zero at the start; with n such epochs 1/n, 2/n, ... 1. fade: the fraction
    over which it falls to zero before `until`, the mirror image: 1 ... 2/n, 1/n. Their product where they overlap.
    """
    left = until - epoch / epochs
    if left <= ROUNDING:
        return 0.0
    rising = min((epoch + 1) / epochs / rise, 1.0) if rise else 1.0
    return rising * (min(left / fade, 1.0) if fade else 1.0)


def schedule(config: dict) -> Callable[[int], float]:
    """epoch (from 0) -> factor of the peak learning rate."""
    recipe = config["recipe"]
    keys = ("schedule", "drops", "drop_factor", "warmup")
    return learning_rate(config["epochs"], **{key: recipe[key] for key in keys})
