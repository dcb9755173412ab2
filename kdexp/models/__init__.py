"""Networks for small images. Every network returns an Output and describes its taps before any batch is seen."""

from typing import NamedTuple

from torch import Tensor, nn


class Output(NamedTuple):
    """What a network returns: logits (batch, classes) and every tap by name.

    Feature maps are (batch, channels, size, size), `embedding` is (batch, channels).
    """

    logits: Tensor
    features: dict[str, Tensor]


class Tap(NamedTuple):
    """One tap of a network, known before any batch.

    channels: of the feature map. size: its height and width, 1 for the embedding. norm: the BatchNorm behind a `*_pre`
    tap. `signed` is True where the values may be negative, as before a ReLU: see SignedTap.
    """

    channels: int
    size: int
    norm: nn.BatchNorm2d | None = None
    signed = False


class SignedTap(Tap):
    """A tap whose values may be negative."""

    signed = True


def initialise(network: nn.Module) -> None:
    """He initialisation: convolutions N(0, sqrt(2 / (k*k*C_out))), BatchNorm 1 and 0, linear layers as torch has
    them."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def count_parameters(network: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
