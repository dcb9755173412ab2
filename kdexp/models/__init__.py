"""Networks for small images. Every network returns an Output and describes its taps before any batch is seen."""

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

    channels: of the feature map. size: its height and width, 1 for the embedding. norm: the BatchNorm behind a `*_pre`
    tap. `signed` is True where the values may be negative, as before a ReLU: see SignedTap.
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
    """He initialisation: convolutions N(0, sqrt(2 / (k*k*C_out))), BatchNorm 1 and 0, linear layers as torch has
    them."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def count_parameters(network: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)


class Taps(dict):
    """The taps of a network that has a name; asking for one that it does not have raises ValueError with both."""

    def __init__(self, owner: str, taps: dict[str, Tap]):
        super().__init__(taps)
        self.owner = owner

    def __missing__(self, tap: str) -> NoReturn:
        raise ValueError(f"needs the tap {tap}, which {self.owner} does not have. It has: {', '.join(self) or 'none'}")


def wrap(net: nn.Module, taps: dict[str, str], image_size: int = 32) -> nn.Module:
    """Any network that returns logits, as one of ours: it returns an Output, and `.taps` describes it.

    taps: tap -> the module of `net` whose output it is, for instance {"stage1": "layer1", "embedding": "avgpool"}.
    Feature maps are (batch, channels, size, size); the embedding is averaged over its map. image_size: height and
    width of the images. A tap counts as signed unless its module is a ReLU, and has a norm if it is a BatchNorm.
    Raises ValueError for a module that is not there, not run, or whose output is changed in place by what follows.
    """
    return Wrapped(net, taps, image_size)


class _Keep:
    """A forward hook: the module's output under the tap's name. No closure, so that a copy of the network has its own."""

    def __init__(self, seen: dict[str, Tensor], tap: str):
        self.seen, self.tap = seen, tap

    def __call__(self, module, inputs, output):
        self.seen[self.tap] = output


class Wrapped(nn.Module):
    """See `wrap`."""

    def __init__(self, net: nn.Module, taps: dict[str, str], image_size: int):
        super().__init__()
        self.net = net
        self.seen: dict[str, Tensor] = {}
        modules = dict(net.named_modules())
        for module in modules.values():
            if getattr(module, "inplace", False):
                module.inplace = False  # a ReLU would overwrite the tap before it
        for tap, name in taps.items():
            if name not in modules:
                raise ValueError(f"taps.{tap}={name}: there is no such module. There are: {', '.join(modules)[2:]}")
            modules[name].register_forward_hook(_Keep(self.seen, tap))
        logits, outputs = outputs_of(net, {modules[name]: name for name in taps.values()}, image_size)
        if not isinstance(logits, Tensor) or logits.dim() != 2:
            raise ValueError("the network must return logits (batch, classes) alone")
        self.num_classes = logits.shape[1]
        self.taps = {tap: _tap(tap, name, modules[name], outputs) for tap, name in taps.items()}
        self.seen.clear()

    def forward(self, images: Tensor) -> Output:
        logits = self.net(images)
        features = {tap: _pooled(x) if tap == "embedding" else x for tap, x in self.seen.items()}
        self.seen.clear()
        return Output(logits, features)


def _pooled(x: Tensor) -> Tensor:
    """(batch, channels) of a feature map, or of what is flat already."""
    return x.mean((2, 3)) if x.dim() == 4 else x


def _tap(tap: str, name: str, module: nn.Module, outputs: dict[str, tuple[Tensor, int]]) -> Tap:
    if name not in outputs:
        raise ValueError(f"taps.{tap}={name}: the module is not run in a forward pass")
    output, version = outputs[name]
    if not isinstance(output, Tensor) or output.dim() not in (2, 4):
        raise ValueError(f"taps.{tap}={name}: its output is no feature map (batch, channels, size, size)")
    if output._version != version:
        raise ValueError(f"taps.{tap}={name}: what follows changes its output in place. Take another module")
    size = 1 if tap == "embedding" or output.dim() == 2 else output.shape[-1]
    kind = Tap if isinstance(module, (nn.ReLU, nn.ReLU6)) else SignedTap
    return kind(output.shape[1], size, module if type(module) is nn.BatchNorm2d else None)


@torch.no_grad()
def outputs_of(net: nn.Module, names: dict[nn.Module, str], image_size: int) -> tuple[Tensor, dict]:
    """One pass of a black image in eval mode: what `net` returns, and for each of these modules that is run, in the
    order they end, name -> (its output, how often that had been changed in place when the module returned it)."""
    outputs, was_training = {}, net.training

    def note(module, inputs, output):
        outputs[names[module]] = output, getattr(output, "_version", 0)

    handles = [module.register_forward_hook(note) for module in names]
    first = next(net.parameters())
    result = net.eval()(torch.zeros(1, 3, image_size, image_size, device=first.device, dtype=first.dtype))
    net.train(was_training)
    for handle in handles:
        handle.remove()
    return result, outputs
