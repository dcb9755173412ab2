"""Where networks look: attention maps of test images. Needs torch, so it is imported only if there are images to show."""

import functools
import json
import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import kdexp
from kdexp.datasets import Images
from kdexp.datasets.batches import Pixels
from kdexp.distill.at import attention
from kdexp.errors import UsageError
from kdexp.experiment.data import load_data
from kdexp.record.config import parse


def images_of_classes(folder: str, data: str, count: int) -> Tensor:
    """The first test image of each of `count` different classes, (count, 3, H, W) uint8, from the data set that the run in
    `folder` was evaluated on, in test-set order: none is picked by hand. Raises ValueError if `data` cannot be read."""
    config = parse(Path(folder, "config.yaml").read_text(encoding="utf-8"))
    _must_be_ours(config["dataset"])
    try:
        found = _read(json.dumps({key: config[key] for key in ("dataset", "plugins")}), data)
    except UsageError as error:
        raise ValueError(str(error)) from None
    return found.images[_first_of_classes(found.labels, count)]


@functools.lru_cache(maxsize=1)  # pairs of the same data set come in a row
def _read(config: str, data: str) -> Images:
    return load_data(json.loads(config) | {"paths": {"data": data}}, torch.device("cpu")).test


def _first_of_classes(labels: Tensor, count: int) -> list[int]:
    positions: dict[int, int] = {}
    for position, label in enumerate(labels.tolist()):
        positions.setdefault(label, position)
        if len(positions) == count:
            break
    return list(positions.values())


def _must_be_ours(node: dict) -> None:
    """Records may come from anyone, so only code that belongs to kdexp is run to draw a picture."""
    if not str(node["_target_"]).startswith("kdexp."):
        raise ValueError(
            f"{node['name']} ({node['_target_']}) is not part of kdexp; code that a record names is not run"
        )


@torch.no_grad()
def attention_maps(folder: str, images: Tensor) -> dict[str, np.ndarray]:
    """Stage -> (N, H, W): squared activations averaged over channels and scaled to unit norm, the maps that AT trains.
    folder: of a run with student.pt. images: (N, 3, H, W) uint8. Raises ValueError if the run's network cannot be loaded."""
    _must_be_ours(parse(Path(folder, "config.yaml").read_text(encoding="utf-8"))["model"]["student"])
    try:
        network = kdexp.load(folder)
    except (FileNotFoundError, UsageError, RuntimeError) as error:
        raise ValueError(str(error)) from None
    node = network.config["dataset"]
    features = network(Pixels(node["mean"], node["std"]).normalise(images)).features
    stages = sorted(name for name in features if re.fullmatch(r"stage\d+", name))
    return {stage: attention(features[stage]).reshape(-1, *features[stage].shape[2:]).numpy() for stage in stages}
