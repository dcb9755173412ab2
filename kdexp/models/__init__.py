"""Networks for small images. Every network returns an Output and can describe its taps before it sees a batch."""

from typing import NamedTuple, NoReturn

import torch
from torch import Tensor, nn


class Output(NamedTuple):
    """What a network returns: logits (batch, classes) and every tap by name.

    Feature maps are (batch, channels, size, size), `embedding` is (batch, channels).
    """

    logits: Tensor
    features: dict[str, Tensor]


class Tap(NamedTuple):
    """One tap of a network, known before any batch.

    channels: channels of the feature map. size: its height and width, 1 for the embedding. norm: the last BatchNorm
    before a `*_pre` tap. `signed` is True if the values may be negative, as before a ReLU: see SignedTap.
    """

    channels: int
    size: int
    norm: nn.BatchNorm2d | None = None

    @property
    def signed(self) -> bool:
        return False


class SignedTap(Tap):
    """A tap whose values may be negative."""

    @property
    def signed(self) -> bool:
        return True


def initialise(network: nn.Module) -> None:
    """He initialization: convolutions N(0, sqrt(2 / (k*k*C_out))), BatchNorm 1 and 0, linear layers as torch's
    default."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def count_parameters(network: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


class Taps(dict):
    """The taps of a named network. Asking for a missing tap raises ValueError with the names of tap and network."""

    def __init__(self, owner: str, taps: dict[str, Tap]):
        super().__init__(taps)
        self.owner = owner

    def __missing__(self, tap: str) -> NoReturn:
        raise ValueError(f"needs the tap {tap}, which {self.owner} does not have. It has: {', '.join(self) or 'none'}")


def wrap(net: nn.Module, taps: dict[str, str], image_size: int = 32, in_channels: int = 3) -> nn.Module:
    """Wrap any network that returns logits. The wrapped network returns an Output and has `.taps`.

    taps: tap -> the module of `net` whose output it is, for instance {"stage1": "layer1", "embedding": "avgpool"}.
    Feature maps are (batch, channels, size, size); the embedding is averaged over its map. image_size: height and
    width of the images, in_channels: their channels. A tap is signed unless its module is a ReLU, and has a norm if its
    module is a BatchNorm. Raises ValueError if a module does not exist, never runs, or has its output changed in place
    by a later module.
    """
    return Wrapped(net, taps, image_size, in_channels)


class _Keep:
    """A forward hook that stores the module's output under the tap's name. Not a closure, so that a copied network
    stores its own outputs."""

    def __init__(self, seen: dict[str, Tensor], tap: str):
        self.seen, self.tap = seen, tap

    def __call__(self, module, inputs, output):
        self.seen[self.tap] = output


class Wrapped(nn.Module):
    """See `wrap`."""

    def __init__(self, net: nn.Module, taps: dict[str, str], image_size: int, in_channels: int):
        super().__init__()
        self.net = net
        self.seen: dict[str, Tensor] = {}
        modules = dict(net.named_modules())
        for module in modules.values():
            if getattr(module, "inplace", False):
                module.inplace = False  # a ReLU would overwrite the tap before it
        for tap, name in taps.items():
            if name not in modules:
                raise ValueError(f"taps.{tap}={name}: no such module. The network has: {', '.join(modules)[2:]}")
            modules[name].register_forward_hook(_Keep(self.seen, tap))
        logits, outputs = outputs_of(net, {modules[name]: name for name in taps.values()}, image_size, in_channels)
        if not isinstance(logits, Tensor) or logits.dim() != 2:
            raise ValueError("the network must return only logits (batch, classes)")
        self.num_classes = logits.shape[1]
        self.taps = {tap: _tap(tap, name, modules[name], outputs) for tap, name in taps.items()}
        self.seen.clear()

    def forward(self, images: Tensor) -> Output:
        logits = self.net(images)
        features = {tap: _pooled(x) if tap == "embedding" else x for tap, x in self.seen.items()}
        self.seen.clear()
        return Output(logits, features)


def _pooled(x: Tensor) -> Tensor:
    """A feature map averaged to (batch, channels); flat features stay as they are."""
    return x.mean((2, 3)) if x.dim() == 4 else x


def _tap(tap: str, name: str, module: nn.Module, outputs: dict[str, tuple[Tensor, int]]) -> Tap:
    if name not in outputs:
        raise ValueError(f"taps.{tap}={name}: the module does not run in a forward pass")
    output, version = outputs[name]
    if not isinstance(output, Tensor) or output.dim() not in (2, 4):
        raise ValueError(f"taps.{tap}={name}: its output is not a feature map (batch, channels, size, size)")
    if output._version != version:
        raise ValueError(f"taps.{tap}={name}: a later module changes its output in place. Choose another one")
    size = 1 if tap == "embedding" or output.dim() == 2 else output.shape[-1]
    kind = Tap if isinstance(module, (nn.ReLU, nn.ReLU6)) else SignedTap
    return kind(output.shape[1], size, module if type(module) is nn.BatchNorm2d else None)


@torch.no_grad()
def outputs_of(
    net: nn.Module, names: dict[nn.Module, str], image_size: int, in_channels: int = 3
) -> tuple[Tensor, dict]:
    """Run a black image through `net` in eval mode. Returns the output of `net`, and for each listed module that ran,
    in the order they finished, name -> (its output, how often it had been changed in place when the module returned)."""
    outputs, was_training = {}, net.training

    def note(module, inputs, output):
        outputs[names[module]] = output, getattr(output, "_version", 0)

    handles = [module.register_forward_hook(note) for module in names]
    first = next(net.parameters())
    result = net.eval()(torch.zeros(1, in_channels, image_size, image_size, device=first.device, dtype=first.dtype))
    net.train(was_training)
    for handle in handles:
        handle.remove()
    return result, outputs
