"""How many students fit side by side, computed before any memory is allocated."""

from pathlib import Path

import torch

from kdexp.config.targets import ShapesOnly
from kdexp.experiment.networks import build_network

SHARE_OF_FREE = 0.8
MEMINFO = Path("/proc/meminfo")  # Linux


def free_bytes(device: torch.device) -> int | None:
    """Free memory of the device; None if the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "cpu" and MEMINFO.exists():
        available = next(line for line in MEMINFO.read_text().splitlines() if line.startswith("MemAvailable:"))
        return int(available.split()[1]) * 1024
    return None


def student_bytes(config: dict) -> tuple[int, int]:
    """(bytes a student keeps between steps, bytes its training pass needs and then frees), in float32.

    Kept: weights, momentum, averaged weights if there are any, and the copies of a checkpoint. A pass: what autograd
    saves for the backward pass, its gradients and the weights' gradients. Students of a group take their passes one
    after the other.
    """
    saved: dict[int, int] = {}

    def note(tensor):
        storage = tensor.untyped_storage()
        saved[storage._cdata] = storage.nbytes()
        return tensor

    node, data = config["model"]["student"], config["dataset"]
    shape = (config["batch_size"], data["channels"], data["image_size"], data["image_size"])
    with torch.device("meta"), ShapesOnly():
        network = build_network(node, config["plugins"])
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            network(torch.empty(shape))
    weights = sum(parameter.nbytes for parameter in network.parameters())
    return (6 if config["recipe"]["ema"] else 4) * weights, 2 * sum(saved.values()) + weights


def how_many(config: dict, free: int | None) -> int | None:
    """How many students like this one fit side by side in `free` bytes, at least one; None for no limit."""
    if free is None:
        return None
    kept, taken = student_bytes(config)
    return max(1, int((SHARE_OF_FREE * free - taken) // kept))
