"""Turns a composed configuration into the values that are saved, and derives what follows from it: its teacher's and
its baseline's configuration, its options' defaults."""

import functools
import json
from collections.abc import Iterator
from pathlib import Path

from hydra import compose
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

from kdexp.config import plugins
from kdexp.config.checks import check_keys, typed_dataset
from kdexp.config.schema import DISTILL, WHERE, Config, Dataset, flatten
from kdexp.errors import UsageError


def plain(config: DictConfig) -> dict:
    """A composed configuration -> the resolved dict that is saved. A run's folder as teacher_checkpoint becomes the file
    of its weights. Label-only training has no teacher, even if one was typed. Raises UsageError."""
    resolved = _resolved(config)
    check_keys(resolved)
    resolved["dataset"] = typed_dataset(resolved["dataset"])
    if (given := resolved["teacher_checkpoint"]) and Path(given).is_dir():
        resolved["teacher_checkpoint"] = str(Path(given, "student.pt"))
    factor, node = resolved.pop("weight_factor"), resolved["distill"]
    if factor != 1:
        key = "ce_weight" if node["_target_"] is None else "weight"
        node[key] = float(f"{node[key] * factor:.12g}")  # 0.27, where 0.9 * 0.3 has 17 digits
    if resolved["distill"]["_target_"] is None:
        resolved["model"]["teacher"] = None
        resolved |= NO_TEACHER
        resolved["distill"] = {key: node[key] if key in OF_LABELS else value for key, value in DISTILL.items()}
    return resolved


OF_LABELS = ("name", "_target_", "label", "note", "control", "ce_weight")  # what label-only training has of `distill`


def without_effect(node: dict) -> list[str]:
    """The settings of a `distill` node that label-only training does not have, as they would be typed: a sweep over a
    method's settings trains one baseline."""
    return [
        f"distill.{key}={value}" for key, value in node.items() if key not in OF_LABELS and value != DISTILL.get(key)
    ]


def _resolved(config: DictConfig) -> dict:
    try:
        return OmegaConf.to_container(config, resolve=True)
    except InterpolationResolutionError as error:
        cause = error  # omegaconf wraps what a resolver raises, more than once
        while cause is not None and not isinstance(cause, UsageError):
            cause = cause.__context__
        raise cause or error from None


@functools.lru_cache
def _composed(**options: str) -> str:
    config = compose("config", [f"{group}={option}" for group, option in options.items()])
    return json.dumps(OmegaConf.to_container(config))


def _chosen(**options: str) -> DictConfig:
    """These options as in their files, neither resolved nor typed yet, so that they can be changed first."""
    return OmegaConf.create(json.loads(_composed(**options)))


def method(config: dict, name: str) -> dict:
    """The `distill` node of another method, as in its file."""
    options = {group: config[group]["name"] for group in ("dataset", "recipe", "optimizer")}
    return OmegaConf.to_container(_chosen(**options, distill=name).distill, resolve=True)


NO_TEACHER = {"teacher_seed": Config.teacher_seed, "teacher_epoch": None}
NO_TEACHER |= {"teacher_checkpoint": None, "teacher_normalize": None}


def baseline_of(config: dict) -> dict:
    """The configuration that trains this run's student on the labels alone."""
    model = config["model"] | {"teacher": None}
    return config | {"distill": method(config, "none"), "model": model} | NO_TEACHER


def teacher_of(config: dict) -> dict | None:
    """The configuration that trains this run's teacher: `distill=none student=<teacher> seed=<teacher_seed>` with
    the run's dataset, recipe, augmentation, epochs, batch_size, precision and deterministic, and the recipe's own optimizer,
    stopped at teacher_epoch. None without a teacher to train."""
    if config["model"]["teacher"] is None or config["teacher_checkpoint"]:
        return None
    keys = ("dataset", "recipe", "augment", "epochs", "batch_size", "precision", "deterministic", *WHERE)
    shared = {key: config[key] for key in keys if key in config}  # an older record may lack a key that was added later
    shared["dataset"] = vars(Dataset()) | shared["dataset"]
    if config["rerun"] in ("failed", "changed"):  # a teacher that diverged, or has changed, is trained again, too
        shared["rerun"] = config["rerun"]
    if config.get("teacher_epoch") is not None:
        shared["stop_epoch"] = config["teacher_epoch"]
    return json.loads(_teacher(json.dumps(config["model"]["teacher"]), config["teacher_seed"], json.dumps(shared)))


@functools.cache
def _teacher(network: str, seed: int, shared: str) -> str:
    settings = json.loads(shared)
    options = {"dataset": settings["dataset"]["name"], "recipe": settings["recipe"]["name"]}
    teacher = _chosen(**options, distill="none", optimizer="sgd")
    teacher.update(settings)
    teacher.model.student, teacher.seed = json.loads(network), seed
    return json.dumps(plain(teacher))


def networks(config: dict) -> Iterator[dict]:
    """The node of every network in conf/model, as it would be in this configuration."""
    for file in plugins.options("model"):
        chosen = OmegaConf.create(config | {"model": json.loads(_network(file.stem))})
        yield OmegaConf.to_container(chosen.model, resolve=True)


@functools.cache
def _network(option: str) -> str:
    return json.dumps(OmegaConf.to_container(compose(f"model/{option}").model))


@functools.cache
def defaults_of(changed: str, **options: str) -> dict:
    """The flat values in these options' own files. Values that a file computes are computed from `changed`, the run's
    own recipe, dataset and paths: epochs from its recipe, the mean of an image folder from that folder."""
    chosen, run, own = _chosen(**options), json.loads(changed), {}
    for section in ("dataset", "recipe"):
        node, values = chosen[section], OmegaConf.to_container(chosen[section])
        own[section] = {key: value for key, value in values.items() if not OmegaConf.is_interpolation(node, key)}
        node.update({key: value for key, value in run[section].items() if key in own[section]})
    chosen.paths = run["paths"]
    usual = {"recipe.name": "crd240", "optimizer.name": "sgd", "augment.name": "crop_flip"}
    return flatten(plain(chosen)) | flatten(own) | usual
