"""The types of the configuration and its defaults. Values are checked in kdexp/config/checks.py."""

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from omegaconf import MISSING


def label(distill: dict) -> str:
    """What tables call a method: SP, or SP+KD with a KD term added."""
    return f"{distill.get('label') or distill['name']}{'+KD' if distill.get('kd_weight') else ''}"


@dataclass
class Dataset:
    """What every data set has; further keys of its file are parameters of its function."""

    name: str = MISSING
    _target_: str = MISSING  # a function of the data folder that returns (train, test) and optional remarks
    num_classes: int = MISSING
    image_size: int = MISSING
    channels: int = 3
    mean: List[float] = MISSING
    std: List[float] = MISSING
    padding: int = 4
    flip: bool = True
    limit: Optional[int] = None  # train on the first N images
    limit_test: Optional[int] = None  # score on the first N images
    validation: int = 0  # hold out N training images, every class in proportion


DATASET = [key for key in Dataset.__dataclass_fields__ if key not in ("name", "_target_")]


@dataclass
class Recipe:
    name: str = MISSING
    epochs: int = MISSING
    batch_size: int = MISSING
    lr: float = MISSING
    momentum: float = 0.9
    weight_decay: float = 0.0
    nesterov: bool = False
    drops: List[float] = field(default_factory=list)  # fractions of the epochs after which the rate is multiplied
    drop_factor: float = 0.1
    padding_mode: str = "constant"
    schedule: str = "step"  # or cosine, linear: to zero, without drops
    warmup: float = 0.0  # the fraction of the epochs over which the rate rises to its peak
    smoothing: float = 0.0  # of the labels: the share that is spread over all classes
    clip: float = 0.0  # the maximum gradient norm, student and connectors together; 0: no clipping
    ema: float = 0.0  # decay per step of averaged weights, which are then scored and saved; 0: no averaging


@dataclass
class Models:
    teacher: Optional[Dict[str, Any]] = None
    student: Dict[str, Any] = MISSING


@dataclass
class Paths:
    data: str = "data"
    outputs: str = "outputs"


# What every method has besides its own parameters (its constructor's): see LossWeights in kdexp/training/learner.py.
DISTILL = {
    "name": MISSING,
    "_target_": None,
    "label": "",
    "note": "",
    "control": False,  # true for a method that carries no knowledge of the image, for comparison
    "weight": 1.0,
    "ce_weight": 1.0,
    "kd_weight": 0.0,
    "kd_temperature": 4.0,
    "until": 1.0,  # these three: fractions of the epochs, see method_weight in kdexp/training/schedules.py
    "fade": 0.0,
    "rise": 0.0,
}

# What every augmentation has besides its own parameters; crop and flip belong to the data set (dataset.padding, dataset.flip).
AUGMENT = {"name": "crop_flip", "_target_": None, "crop_and_flip": True}


@dataclass
class Config:
    dataset: Dict[str, Any] = field(default_factory=lambda: vars(Dataset()))  # its types: kdexp/config/checks.py
    model: Models = field(default_factory=Models)
    distill: Dict[str, Any] = field(default_factory=lambda: dict(DISTILL))
    recipe: Recipe = field(default_factory=Recipe)
    augment: Dict[str, Any] = field(default_factory=lambda: dict(AUGMENT))
    optimizer: Dict[str, Any] = field(default_factory=dict)
    omit: List[int] = field(default_factory=list)  # classes without images in the student's training
    seed: int = 1
    teacher_seed: int = 1
    teacher_epoch: Optional[int] = None  # use a teacher that was stopped there; 0: untrained
    teacher_checkpoint: Optional[str] = None
    teacher_normalize: Any = None  # or [[mean, mean, mean], [std, std, std]]
    epochs: int = MISSING
    stop_epoch: Optional[int] = None  # stop the schedule there; None for all epochs
    batch_size: int = MISSING
    device: str = "auto"
    precision: str = "auto"
    deterministic: Any = "auto"
    compile: Any = "auto"
    tag: str = ""
    keep_logits: Any = "auto"
    rerun: str = "none"
    share: int = 0
    weight_factor: float = 1.0
    threads: Any = "auto"
    on_error: str = "continue"
    dry_run: bool = False
    prepare: bool = False
    describe: bool = False
    engine: Dict[str, Any] = field(default_factory=dict)
    logger: Dict[str, Any] = field(default_factory=dict)
    plugins: List[str] = field(default_factory=list)
    paths: Paths = field(default_factory=Paths)


# Where a run is computed and what a command does, not what a run is: part of neither its name nor its fingerprint.
WHERE = ("keep_logits", "device", "compile", "threads", "share", "engine", "logger", "plugins", "paths")
CIRCUMSTANCES = (*WHERE, "rerun", "on_error", "dry_run", "prepare", "describe", "changed")

# Where a data set's own files are and how they are read. `dataset.content`, a hash of what they hold, replaces these.
PLACES = ("dataset.root", "dataset.in_memory_mb")


def without_places(flat: dict[str, Any]) -> dict[str, Any]:
    """Flat settings without PLACES, if `dataset.content` stands for them."""
    return {key: value for key, value in flat.items() if key not in PLACES or not flat.get("dataset.content")}


def flatten(node: dict, prefix: str = "") -> dict[str, Any]:
    """Nested dict -> {"a.b": value}; lists stay values."""
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
