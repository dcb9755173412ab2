"""From configuration to objects: the only file that knows both."""

import functools
import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdexp import screen
from kdexp.augment import Augmentation
from kdexp.config.schema import AUGMENT, DATASET, DISTILL, Unfit, UsageError
from kdexp.config.targets import ShapesOnly, construct, constructor, parameters, target
from kdexp.datasets import DatasetError, Images, split_validation, without_classes
from kdexp.datasets.batches import Pixels, TrainBatches
from kdexp.datasets.checks import check_images
from kdexp.graph import StepGraph
from kdexp.learner import Learner, Weights
from kdexp.machine import Machine, forward_of, place
from kdexp.models import Taps
from kdexp.randomness import seeded
from kdexp.schedules import learning_rate


class Data(NamedTuple):
    """The three splits on the device; validation is None if nothing is held out. remarks: lines for a run's log."""

    train: Images
    validation: Images | None
    test: Images
    pixels: Pixels
    remarks: tuple[str, ...] = ()


def load_data(config: dict, device: torch.device) -> Data:
    """Read the data set, and print its remarks. Classes in `omit` are left out of the training images alone: images held
    out for validation are chosen first and stay. Raises UsageError if the data are missing, damaged or smaller than asked
    for, and for a parameter that its function does not have or a value that it rejects."""
    node = config["dataset"]
    try:
        train, test, *remarks = _reader(config)(config["paths"]["data"], **parameters(node, DATASET))
        check_images({"channels": 3} | node, train=train, test=test)  # records of earlier versions lack the channels
    except (DatasetError, ValueError) as error:
        raise UsageError(f"{node['name']}: {error}") from None
    for remark in remarks:
        screen.say(f"{node['name']}   {remark}")
    for key, there in (("limit", train), ("limit_test", test)):
        if node[key] and node[key] > len(there.labels):
            raise UsageError(f"dataset.{key}={node[key]}: {node['name']} has only {len(there.labels)} of these images")
    train, test, validation = train.first(node["limit"]), test.first(node["limit_test"]), None
    if node["validation"] >= len(train.labels):
        raise UsageError(
            f"dataset.validation={node['validation']}: there are only {len(train.labels)} training images to hold out from"
        )
    if node["validation"]:
        train, validation = split_validation(train, node["validation"])
    if omit := config.get("omit"):  # records of earlier versions have no such key
        train = without_classes(train, omit)
        if not len(train.labels):
            raise UsageError(f"omit={omit}: leaves no training images")
    train, validation, test = (part and part.to(device) for part in (train, validation, test))
    return Data(train, validation, test, Pixels(node["mean"], node["std"], device), tuple(remarks))


def _reader(config: dict) -> Callable:
    """The function that reads the data set. Raises UsageError for a parameter it does not have."""
    return constructor(config["dataset"], 1, config["plugins"], DATASET)


def train_batches(config: dict, data: Data, *purpose: str) -> TrainBatches:
    """The batches of the student's training, or of another purpose, which has its own random draws."""
    node, moves = config["dataset"], config["augment"]["crop_and_flip"]
    return TrainBatches(
        data.train,
        data.pixels,
        config["batch_size"],
        (config["seed"], *purpose) if purpose else config["seed"],
        node["padding"] if moves else 0,
        config["recipe"]["padding_mode"],
        node["flip"] and moves,
        build_augmentation(config),
    )


def build_augmentation(config: dict) -> Augmentation | None:
    """What is done after crop and flip, if anything. Raises UsageError."""
    node = config["augment"]
    if node["_target_"] is None:
        return None
    return construct(node, (config["dataset"]["num_classes"],), config["plugins"], AUGMENT)


def schedule(config: dict) -> Callable[[int], float]:
    """epoch (from 0) -> factor of the peak learning rate."""
    recipe = config["recipe"]
    keys = ("schedule", "drops", "drop_factor", "warmup")
    return learning_rate(config["epochs"], **{key: recipe[key] for key in keys})


CHOICES = ("model", "distill", "augment", "optimizer", "logger", "plugins")  # what objects are built from


def check_objects(config: dict) -> None:
    """Check every constructor's arguments before anything is built, once for each choice. Raises UsageError."""
    if parameters(config["dataset"], DATASET):  # else there is nothing to check, and importing it takes time
        _reader(config)
    build_augmentation(config)
    _check_objects(json.dumps([config[key] for key in CHOICES]))


@functools.cache
def _check_objects(chosen: str) -> None:
    config = {"seed": 1} | dict(zip(CHOICES, json.loads(chosen)))
    with torch.device("meta"), ShapesOnly():
        nodes = (config["model"][role] for role in ("student", "teacher"))
        student, teacher = (node and _shapes(json.dumps(node), tuple(config["plugins"])) for node in nodes)
        build_method(config, student, teacher)
    constructor(config["optimizer"], 1, config["plugins"])
    if config["logger"]["_target_"]:
        try:
            constructor(config["logger"], 3, config["plugins"]).require()
        except ValueError as error:
            raise UsageError(f"{config['logger']['name']}: {error}") from None


@functools.cache
def _shapes(node: str, plugins: tuple) -> nn.Module:
    """A network without values, built once for all pairs that use it."""
    return build_network(json.loads(node), plugins)


def build_network(node: dict, plugins=()) -> nn.Module:
    return construct(node, (), plugins)


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


def build_student(config: dict) -> nn.Module:
    """The student with the initial weights that every method of its seed starts from."""
    with seeded(config["seed"], "student"):
        return build_network(config["model"]["student"], config["plugins"])


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


def build_learner(config: dict, where: Machine, teacher: nn.Module | None, labels: Tensor) -> Learner:
    """Student, method and optimizer on the device. labels: of all training images."""
    student = place(build_student(config), where.device)
    method = build_method(config, student, teacher)
    if method is not None:
        place(method, where.device)
        with seeded(config["seed"], "begin"):
            method.begin(labels)
    trained = [*student.parameters(), *(method.parameters() if method is not None else ())]
    optimizer = build_optimizer(config, trained)
    node = config["distill"]
    weight = node["weight"] if method is not None else 0.0
    recipe = config["recipe"]
    weights = Weights(
        node["ce_weight"],
        weight,
        node["kd_weight"],
        node["kd_temperature"],
        recipe["smoothing"],
        **{key: node[key] for key in ("until", "fade", "rise")},
    )
    forward = forward_of(student, where, config["batch_size"])
    own = (config["seed"], recipe["clip"], recipe["ema"])
    learner = Learner(student, optimizer, method, weights, forward, where.half, *own)
    if where.graph:
        learner.graph = StepGraph(learner, config["batch_size"])
    return learner
