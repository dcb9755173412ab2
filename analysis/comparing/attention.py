"""Where networks look: attention maps of test images. Imports torch, so it is imported only when there are images to look at."""

import functools
import json
import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import kdexp
from kdexp.config.schema import UsageError
from kdexp.datasets import Images
from kdexp.datasets.batches import Pixels
from kdexp.distill.at import attention
from kdexp.experiment import load_data
from kdexp.record.config import parse


def images_of_classes(folder: str, data: str, count: int) -> Tensor:
    """The first test images of `count` different classes, (count, 3, H, W) uint8, of the data set that the run in `folder` was
    scored on. Nothing is picked: they come in the order of the test set. Raises ValueError if it cannot be read in `data`."""
    config = parse(Path(folder, "config.yaml").read_text(encoding="utf-8"))
    _must_be_ours(config["dataset"])
    try:
        found = _read(json.dumps({key: config[key] for key in ("dataset", "plugins")}), data)
    except UsageError as error:
        raise ValueError(str(error)) from None
    return found.images[_first_of_classes(found.labels, count)]


@functools.lru_cache(maxsize=1)  # pairs of one data set follow each other
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
    """Records may come from anyone: only what kdexp itself holds is run for a picture."""
    if not str(node["_target_"]).startswith("kdexp."):
        raise ValueError(f"{node['name']} ({node['_target_']}) is not part of kdexp, and code of records is not run")


@torch.no_grad()
def attention_maps(folder: str, images: Tensor) -> dict[str, np.ndarray]:
    """Stage -> (N, H, W): mean over the channels of the squared activations, of unit norm, which is what AT trains. folder: of a
    run with student.pt. images: (N, 3, H, W) uint8. Raises ValueError for a run whose network cannot be loaded."""
    _must_be_ours(parse(Path(folder, "config.yaml").read_text(encoding="utf-8"))["model"]["student"])
    try:
        network = kdexp.load(folder)
    except (FileNotFoundError, UsageError, RuntimeError) as error:
        raise ValueError(str(error)) from None
    node = network.config["dataset"]
    features = network(Pixels(node["mean"], node["std"]).normalise(images)).features
    stages = sorted(name for name in features if re.fullmatch(r"stage\d+", name))
    return {stage: attention(features[stage]).reshape(-1, *features[stage].shape[2:]).numpy() for stage in stages}
