"""Methods, optimizers, loggers; and whether a job's objects can be built at all."""

import functools
import inspect
import json
from pathlib import Path

import torch
from torch import nn

from kdexp.compute.randomness import seeded
from kdexp.config.schema import DATASET, DISTILL
from kdexp.config.targets import ShapesOnly, construct, constructor, parameters, target
from kdexp.errors import Unfit, UsageError
from kdexp.experiment.data import build_augmentation, reader
from kdexp.experiment.networks import build_network, shapes
from kdexp.models import Taps

CHOICES = ("model", "distill", "augment", "optimizer", "logger", "plugins")  # what objects are built from


def check_objects(config: dict) -> None:
    """Check every constructor's arguments before anything is built, once for each choice. Raises UsageError."""
    if parameters(config["dataset"], DATASET):  # else there is nothing to check, and importing it takes time
        reader(config)
    build_augmentation(config)
    _check_objects(json.dumps([config[key] for key in CHOICES]))


@functools.cache
def _check_objects(chosen: str) -> None:
    config = {"seed": 1} | dict(zip(CHOICES, json.loads(chosen)))
    with torch.device("meta"), ShapesOnly():
        nodes = (config["model"][role] for role in ("student", "teacher"))
        student, teacher = (node and shapes(json.dumps(node), tuple(config["plugins"])) for node in nodes)
        build_method(config, student, teacher)
    constructor(config["optimizer"], 1, config["plugins"])
    if config["logger"]["_target_"]:
        try:
            constructor(config["logger"], 3, config["plugins"]).require()
        except ValueError as error:
            raise UsageError(f"{config['logger']['name']}: {error}") from None


def build_method(config: dict, student: nn.Module, teacher: nn.Module | None):
    """The method between two networks, its connectors drawn from (seed, "connectors"); None for label-only training.
    Raises UsageError, and Unfit if the method rejects the pair."""
    node = config["distill"]
    if node["_target_"] is None:
        return None
    networks = {"student": student, "teacher": teacher}
    if student.num_classes != teacher.num_classes:
        raise UsageError(
            f"{config['model']['teacher']['name']} has {teacher.num_classes} classes and "
            f"{config['model']['student']['name']} has {student.num_classes}: the two must have the same number"
        )
    taps = tuple(Taps(config["model"][role]["name"], net.taps) for role, net in networks.items())
    common = [key for key in DISTILL if key not in ("name", "_target_")]
    with seeded(config["seed"], "connectors"):
        try:
            method = construct(node, taps, config["plugins"], common)
        except UsageError as error:
            raise Unfit(str(error)) from None
    augment = config["augment"]
    if method.hard_labels and augment["_target_"] and target(augment, config["plugins"]).mixes:
        raise Unfit(
            f"{node['name']}: needs one class for each image, and augment={augment['name']} mixes images of two. "
            "Leave out the method, or choose another augmentation: augment=crop_flip"
        )
    return method


def pretrain_epochs(config: dict) -> int:
    """Epochs of the method's pretraining; 0 for most."""
    return _pretrain_epochs(json.dumps([config[key] for key in CHOICES]))


@functools.cache
def _pretrain_epochs(chosen: str) -> int:
    config = {"seed": 1} | dict(zip(CHOICES, json.loads(chosen)))
    if config["distill"]["_target_"] is None:
        return 0
    with torch.device("meta"), ShapesOnly():
        networks = [build_network(config["model"][role], config["plugins"]) for role in ("student", "teacher")]
        plan = build_method(config, *networks).pretraining()
    return plan.epochs if plan else 0


def build_logger(config: dict, folder: Path, name: str):
    """The logger that gets the run's rows besides its record; None for no logger. Raises UsageError."""
    node = config["logger"]
    return construct(node, (folder, name, config), config["plugins"]) if node["_target_"] else None


def build_optimizer(config: dict, trained: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Fused if both the optimizer and the device support it. Raises UsageError for values it rejects."""
    node, kind = config["optimizer"], trained[0].device.type
    takes = inspect.signature(constructor(node, 1, config["plugins"])).parameters
    wanted = {"fused": kind in ("cpu", "cuda"), "capturable": kind == "cuda"}  # without it, AdamW refuses a CUDA graph
    return construct(
        node, (trained,), config["plugins"], **{key: True for key in wanted if wanted[key] and key in takes}
    )
