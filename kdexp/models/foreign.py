"""Networks trained by another program: load its weights file, and normalize images with its constants.

A file holds a state dict, bare or under one of the keys in UNDER, next to whatever else the program saved. A network
may list what other programs call its layers: `names_elsewhere`, pairs of (pattern, replacement) for re.sub that turn a
name in the file into the network's own. For a wrapped network, the file may hold the weights of the network inside.
"""

import argparse
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from kdexp.models import Output, Tap, Wrapped

UNDER = ("model", "state_dict", "net")
# prefixes of every name: DataParallel's, and mdistiller's in label-only training, where the network is its student
PREFIXES = ("module.", "student.")
INSTEAD = "Save only the weights: torch.save(network.state_dict(), FILE)"


def read_state(file: str | Path) -> dict[str, Tensor]:
    """The state dict in a file, with the file's own names. Never runs code from the file. Raises ValueError."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # RepDistiller's options, saved with the weights
            saved = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load's errors for corrupt or foreign files have no common base
        refused = re.search(r"GLOBAL (\S+)", str(error))
        why = f"it holds a pickled {refused[1]}" if refused else type(error).__name__
        raise ValueError(f"is not a file that torch.load(weights_only=True) can read ({why}). {INSTEAD}") from None
    within = saved if isinstance(saved, dict) else {}
    state = next((within[key] for key in UNDER if isinstance(within.get(key), dict)), within)
    if not state or not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()):
        holds = ", ".join(map(str, [*state][:5])) or type(saved).__name__
        raise ValueError(f"holds no weights, bare or under {', '.join(UNDER)}, but {holds}. {INSTEAD}")
    return state


def load_weights(network: nn.Module, file: str | Path, name: str, known: Iterable[tuple[str, nn.Module]] = ()) -> None:
    """Load a network's weights from a file. Raises ValueError with the first layer that does not fit, by its name in the
    file.

    name: the network's name. known: other networks by name, searched for one that does fit.
    """
    state = read_state(file)
    if misfit := _misfit(state, network):
        alike = next((f". It looks like {other}" for other, made in known if not _misfit(state, made)), "")
        raise ValueError(f"does not fit {name}: {misfit}{alike}")
    keys = _keys(state, network)
    if bad := next((key for key in keys.values() if not state[key].isfinite().all()), None):
        raise ValueError(f"holds values that are not finite in {bad}: its training diverged, or the file is damaged")
    own = {name: state[key] for name, key in keys.items()}
    network.load_state_dict(network.state_dict() | own)


def _keys(state: dict[str, Tensor], network: nn.Module) -> dict[str, str]:
    """The network's name of each layer -> its key in the file, under the reading that matches the most names."""
    readings = [{key: key for key in state}]
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in readings[0]):
            readings.insert(0, {name.removeprefix(prefix): key for name, key in readings[0].items()})
    renamed = [names for reading in readings for names in _renamed(reading, network)]
    own = network.state_dict().keys()
    return max(renamed, key=lambda names: len(own & names.keys()))


def _renamed(keys: dict[str, str], network: nn.Module) -> list[dict[str, str]]:
    """A file's names translated to the network's; for a wrapped network, also to those of the network inside."""
    inside = _renamed(keys, network.net) if isinstance(network, Wrapped) else []
    for pattern, replacement in getattr(network, "names_elsewhere", ()):
        keys = {re.sub(pattern, replacement, name): key for name, key in keys.items()}
    return [keys, *({f"net.{name}": key for name, key in names.items()} for names in inside)]


def _misfit(state: dict[str, Tensor], network: nn.Module) -> str:
    """Describes the first layer that differs or is missing on either side, or says that the names differ if most do.
    Empty if everything fits."""
    keys, own = _keys(state, network), network.state_dict()
    only_given, only_own = (
        [name for name in ours if name not in theirs] for ours, theirs in ((keys, own), (own, keys))
    )
    if len(only_given) > len(keys) / 2 and len(only_own) > len(own) / 2:
        return f"its layers have different names: {keys[only_given[0]]}, ... in the file, {only_own[0]}, ... in the network"
    for name in [*keys, *own]:
        if name not in keys and name.endswith(".num_batches_tracked"):  # torch before 0.4.1 did not have these
            continue
        layer = state[keys[name]] if name in keys else None
        if layer is None or name not in own or layer.shape != own[name].shape:
            return f"{keys.get(name, name)} is {_size(layer)} in the file, {_size(own.get(name))} in the network"
    return ""


def _size(layer: Tensor | None) -> str:
    return "missing" if layer is None else "x".join(map(str, layer.shape)) or "a number"


class Renormalised(nn.Module):
    """A network trained on images that were normalized differently from the ones it is given.

    seen, trained: (means, standard deviations) of the channels, for the images it is given and for those it was
    trained on. Also exact at padded borders, since crops are padded before they are normalized.
    """

    def __init__(self, network: nn.Module, seen: Sequence[Sequence[float]], trained: Sequence[Sequence[float]]):
        super().__init__()
        (mean, std), (its_mean, its_std) = (
            torch.tensor(constants).view(2, 1, -1, 1, 1) for constants in (seen, trained)
        )
        self.network = network
        self.register_buffer("scale", std / its_std)
        self.register_buffer("shift", (mean - its_mean) / its_std)

    @property
    def taps(self) -> dict[str, Tap]:
        return self.network.taps

    @property
    def num_classes(self) -> int:
        return self.network.num_classes

    def forward(self, images: Tensor) -> Output:
        return self.network(images * self.scale + self.shift)
