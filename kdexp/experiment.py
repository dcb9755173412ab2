"""From configuration to objects: the only file that knows both."""

import hashlib
import inspect
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import torch
from omegaconf import OmegaConf
from torch import nn
from torch.overrides import TorchFunctionMode

from kdexp import ROOT, __version__
from kdexp.datasets import DatasetError, Images, split_validation
from kdexp.datasets.batches import Pixels, TrainBatches
from kdexp.models import count_parameters
from kdexp.naming import file_sha256, parameters, target, variant
from kdexp.randomness import seeded
from kdexp.schema import DISTILL, UsageError
from kdexp.train import Learner, Weights


class Machine(NamedTuple):
    """Where and how a run is computed, resolved from what was asked for."""

    device: torch.device
    half: torch.dtype | None
    deterministic: bool
    compile: bool


def machine(config: dict) -> Machine:
    """Resolve device, precision, deterministic and compile. Raises UsageError for a device that is not there."""
    asked = config["device"]
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    device = torch.device(best if asked == "auto" else asked)
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}[device.type]
    if (device.index or 0) >= there:
        raise UsageError(f"device={asked}: this machine has {there or 'no'} {device.type} device{'s' * (there != 1)}. "
                         f"device=auto takes what is there ({best})")
    precision = config["precision"] if config["precision"] != "auto" else "bf16" if device.type == "cuda" else "fp32"
    deterministic = device.type == "cpu" if config["deterministic"] == "auto" else config["deterministic"]
    compiled = False if config["compile"] == "auto" else config["compile"]
    return Machine(device, torch.bfloat16 if precision == "bf16" else None, deterministic, compiled)


class Data(NamedTuple):
    """The three parts on the device; validation is None without a held-out part."""

    train: Images
    validation: Images | None
    test: Images
    pixels: Pixels


def load_data(config: dict, device: torch.device) -> Data:
    """Read the data set once. Raises UsageError if it is missing, damaged or smaller than what was asked for."""
    node = config["dataset"]
    try:
        train, test = target(node, config["plugins"])(config["paths"]["data"])
    except DatasetError as error:
        raise UsageError(f"{node['name']}: {error}") from None
    for key, there in (("limit", train), ("limit_test", test)):
        if node[key] and node[key] > len(there.labels):
            raise UsageError(f"dataset.{key}={node[key]}: {node['name']} has {len(there.labels)} images there")
    train, test, validation = train.first(node["limit"]), test.first(node["limit_test"]), None
    if node["validation"] >= len(train.labels):
        raise UsageError(f"dataset.validation={node['validation']}: only {len(train.labels)} training images are there to hold out from")
    if node["validation"]:
        train, validation = split_validation(train, node["validation"])
    parts = [part and part.to(device) for part in (train, validation, test)]
    return Data(*parts, Pixels(node["mean"], node["std"], device))


def train_batches(config: dict, data: Data) -> TrainBatches:
    node = config["dataset"]
    return TrainBatches(data.train, data.pixels, config["batch_size"], config["seed"], node["padding"], config["recipe"]["padding_mode"], node["flip"])


def schedule(config: dict):
    """epoch (from 0) -> factor of the peak learning rate: drop_factor for every fraction of the epochs that has passed."""
    recipe, epochs = config["recipe"], config["epochs"]
    return lambda epoch: recipe["drop_factor"] ** sum(epoch / epochs >= drop for drop in recipe["drops"])


def constructor(node: dict, given: int, plugins, common=()):
    """What a `_target_` node names. Raises UsageError for a parameter that it does not have beside the first `given`."""
    made = target(node, plugins)
    known = list(inspect.signature(made).parameters)[given:]
    for key in parameters(node, common):
        if key not in known:
            allowed = [*known, *(name for name in common if name not in ("label", "note"))]
            raise UsageError(f"{node['name']} has no parameter '{key}'. It has: {', '.join(allowed)}")
    return made


def construct(node: dict, given: tuple, plugins, common=(), **more):
    """Build what a `_target_` node names. Raises UsageError for a parameter it does not have or a value it refuses."""
    made = constructor(node, len(given), plugins, common)
    try:
        return made(*given, **parameters(node, common), **more)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{node['name']}: {error}") from None
    except KeyError as error:
        raise UsageError(f"{node['name']} needs the tap {error}, which this pair of networks does not have") from None


class ShapesOnly(TorchFunctionMode):
    """Inside, random initialisation does nothing: on the meta device it has nothing to fill, and takes seconds to find that out."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__name__", "") in ("normal_", "uniform_"):
            return args[0] if args else kwargs["tensor"]
        return function(*args, **(kwargs or {}))


def check_objects(config: dict) -> None:
    """Let every constructor have its say before anything is made. Raises UsageError."""
    with torch.device("meta"), ShapesOnly():
        student = build_network(config["model"]["student"], config["plugins"])
        teacher = config["model"]["teacher"] and build_network(config["model"]["teacher"], config["plugins"])
        build_method(config, student, teacher)
    constructor(config["optimizer"], 1, config["plugins"])


def build_network(node: dict, plugins=()) -> nn.Module:
    return construct(node, (), plugins)


def build_method(config: dict, student: nn.Module, teacher: nn.Module | None):
    """The method between two networks, its connectors drawn from (seed, "connectors"); None for label-only training."""
    node = config["distill"]
    if node["_target_"] is None:
        return None
    if student.num_classes != teacher.num_classes:
        raise UsageError(f"{config['model']['teacher']['name']} has {teacher.num_classes} classes and "
                         f"{config['model']['student']['name']} has {student.num_classes}: a pair must have the same")
    with seeded(config["seed"], "connectors"):
        return construct(node, (student.taps, teacher.taps), config["plugins"], common=[key for key in DISTILL if key not in ("name", "_target_")])


def build_student(config: dict) -> nn.Module:
    """The student as every method of its seed starts from it."""
    with seeded(config["seed"], "student"):
        return build_network(config["model"]["student"], config["plugins"])


def build_learner(config: dict, where: Machine, teacher: nn.Module | None) -> Learner:
    """Student, method and optimizer on the device."""
    student = build_student(config).to(where.device, memory_format=torch.channels_last)
    method = build_method(config, student, teacher)
    if method is not None:
        method.to(where.device, memory_format=torch.channels_last)
    trained = [*student.parameters(), *(method.parameters() if method is not None else ())]
    fused = {"fused": True} if where.device.type in ("cpu", "cuda") else {}
    optimizer = construct(config["optimizer"], (trained,), config["plugins"], **fused)
    node = config["distill"]
    weights = Weights(node["ce_weight"], node["weight"], node["kd_weight"], node["kd_temperature"])
    forward = torch.compile(student) if where.compile else None
    return Learner(student, optimizer, method, weights, forward, where.half)


def load_weights(network: nn.Module, file: Path, name: str) -> nn.Module:
    """Fill a network from a file of weights. Raises UsageError that names the first layer that does not fit."""
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        given = {key: tuple(value.shape) for key, value in state.items()}
    except Exception as error:  # torch.load has no common base for what a damaged or foreign file raises
        raise UsageError(f"{file} holds no weights that torch.load(weights_only=True) can read ({type(error).__name__})") from None
    own = {key: tuple(value.shape) for key, value in network.state_dict().items()}
    for key in [*own, *given]:
        if given.get(key) != own.get(key):
            has = {where: "x".join(map(str, shapes[key])) or "a number" if key in shapes else "missing" for where, shapes in (("file", given), ("network", own))}
            raise UsageError(f"{file} does not fit {name}: {key} is {has['file']} in the file, {has['network']} in the network")
    network.load_state_dict(state)
    return network


def load_network(run_folder: Path) -> nn.Module:
    """See kdexp.load."""
    config = OmegaConf.to_container(OmegaConf.load(run_folder / "config.yaml"))
    network = build_network(config["model"]["student"], config["plugins"])
    network.load_state_dict(torch.load(run_folder / "student.pt", map_location="cpu", weights_only=True))
    network.config = config
    return network.eval()


def describe(config: dict, job_fingerprint: str, learner: Learner, where: Machine, group_size: int, rows: list[dict],
             images: int, teacher_acc: float | None, weights: bytes) -> dict:
    """result.json."""
    last, node = rows[-1], config["distill"]
    seconds = sum(row["seconds"] for row in rows)
    memory = torch.cuda.max_memory_allocated(where.device) if where.device.type == "cuda" else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    method_version = {"method": target(node, config["plugins"]).version} if node["_target_"] else {}
    return {
        "dataset": config["dataset"]["name"], "teacher": config["model"]["teacher"] and config["model"]["teacher"]["name"],
        "student": config["model"]["student"]["name"], "distill": node["name"], "seed": config["seed"], "teacher_seed": config["teacher_seed"],
        "recipe": config["recipe"]["name"], "epochs": config["epochs"], "batch_size": config["batch_size"], "limit": config["dataset"]["limit"], "variant": variant(config),
        "test_acc": last["test_acc"], "best_test_acc": max(row["test_acc"] for row in rows), "test_top5": last["test_top5"],
        "test_loss": last["test_loss"], "val_acc": last["val_acc"], "teacher_test_acc": teacher_acc, "params": count_parameters(learner.student),
        "seconds": seconds, "seconds_per_epoch": seconds / len(rows), "images_per_second": images * len(rows) / seconds,
        "peak_memory_mb": memory / 2**20, "device": device_name(where.device), "precision": "bf16" if where.half else "fp32",
        "compile": where.compile, "deterministic": where.deterministic, "threads": torch.get_num_threads(), "group_size": group_size,
        "fingerprint": job_fingerprint, "student_sha256": hashlib.sha256(weights).hexdigest(),
        "teacher_checkpoint_sha256": file_sha256(config["teacher_checkpoint"]) if config["teacher_checkpoint"] else None,
        "versions": {"kdexp": __version__, "python": platform.python_version(), "torch": torch.__version__, **method_version}, "git": git_commit(),
    }


def device_name(device: torch.device) -> str:
    return f"{device} {torch.cuda.get_device_name(device)}" if device.type == "cuda" else device.type


def git_commit() -> str | None:
    """The commit of this checkout, "-dirty" with uncommitted changes; None where there is no git."""
    try:
        done = subprocess.run(["git", "describe", "--always", "--dirty", "--abbrev=12"], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
