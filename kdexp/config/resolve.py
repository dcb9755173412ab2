"""Turns a composed configuration into the values that are saved, and derives what follows from them: its teachers' and
its baseline's configuration. Only `plain` and what describes options need Hydra; a saved configuration is all that a job needs."""

import functools
import json
from collections.abc import Iterator
from pathlib import Path

from hydra import compose
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

from kdexp.config import plugins
from kdexp.config.checks import check_keys, typed_dataset
from kdexp.config.compose import initialised
from kdexp.config.schema import CIRCUMSTANCES, DISTILL, WHERE, Config, Dataset, flatten
from kdexp.errors import UsageError
from kdexp.places import CONF


def plain(config: DictConfig) -> dict:
    """A composed configuration -> the resolved dict that is saved. A run's folder as teacher_checkpoint becomes the file
    of its weights. Label-only training has no teacher, even if one was typed. `changed` lists the keys whose values are not
    those of their option's own file, except for the networks and the seed. Raises UsageError."""
    resolved = _plain(config)
    options = {group: resolved[group]["name"] for group in ("dataset", "distill", "recipe", "augment", "optimizer")}
    usual = _usual(json.dumps({key: resolved[key] for key in ("recipe", "dataset", "paths")}), **options)
    unnamed = (*CIRCUMSTANCES, "seed", "model")
    differ = [key for key, value in flatten(resolved).items() if value != usual.get(key)]
    return resolved | {"changed": sorted(key for key in differ if key.partition(".")[0] not in unnamed)}


def _plain(config: DictConfig) -> dict:
    resolved = _resolved(config)
    check_keys(resolved)
    resolved["dataset"] = typed_dataset(resolved["dataset"])
    if (given := resolved["teacher_checkpoint"]) and Path(given).is_dir():
        resolved["teacher_checkpoint"] = str(Path(given, "student.pt"))
    factor, node = resolved.pop("weight_factor"), resolved["distill"]
    if factor != 1:
        key = "ce_weight" if node["_target_"] is None else "weight"
        node[key] = float(f"{node[key] * factor:.12g}")  # 0.27, where 0.9 * 0.3 has 17 digits
    if node["_target_"] is None:
        resolved["model"]["teacher"] = None
        resolved |= NO_TEACHER
        resolved["distill"] = {key: node[key] if key in OF_LABELS else value for key, value in DISTILL.items()}
    return resolved


OF_LABELS = ("name", "_target_", "label", "note", "control", "ce_weight")  # what label-only training has of `distill`
NO_TEACHER = {"teacher_seed": Config.teacher_seed, "teacher_epoch": None}
NO_TEACHER |= {"teacher_checkpoint": None, "teacher_normalize": None}


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


@functools.cache
def _composed(name: str, **options: str) -> str:
    config = compose(name, [f"{group}={option}" for group, option in options.items()])
    return json.dumps(OmegaConf.to_container(config))


def _chosen(distill: str, **options: str) -> DictConfig:
    """These options as in their files, neither resolved nor typed yet, so that they can be changed first. A method's file is
    composed by itself: a sweep has many, and the whole takes ten times as long."""
    chosen = OmegaConf.create(json.loads(_composed("config", **options)))
    chosen.distill = DISTILL | json.loads(_composed(f"distill/{distill}"))["distill"]
    return chosen


@functools.cache
def _usual(run: str, **options: str) -> dict:
    """The flat values in these options' own files. Values that a file computes are computed from `run`, the run's own
    recipe, dataset and paths: epochs from its recipe, the mean of an image folder from that folder."""
    chosen, values, own = _chosen(**options), json.loads(run), {}
    for section in ("dataset", "recipe"):
        node, here = chosen[section], OmegaConf.to_container(chosen[section])
        own[section] = {key: value for key, value in here.items() if not OmegaConf.is_interpolation(node, key)}
        node.update({key: value for key, value in values[section].items() if key in own[section]})
    chosen.paths = values["paths"]
    defaults = {"recipe.name": "crd240", "optimizer.name": "sgd", "augment.name": "crop_flip"}
    return flatten(_plain(chosen)) | flatten(own) | defaults


def method(config: dict, name: str) -> dict:
    """The `distill` node of another method, as in its file."""
    options = {group: config[group]["name"] for group in ("dataset", "recipe", "optimizer")}
    return OmegaConf.to_container(_chosen(**options, distill=name).distill, resolve=True)


def networks(config: dict) -> Iterator[dict]:
    """The node of every network in conf/model, as it would be in this configuration."""
    with initialised():
        for file in plugins.options("model"):
            node = json.loads(_composed(f"model/{file.stem}"))
            yield OmegaConf.to_container(OmegaConf.create(config | node).model, resolve=True)


@functools.cache
def _labels_alone() -> dict:
    return DISTILL | OmegaConf.to_container(OmegaConf.load(CONF / "distill" / "none.yaml"))


def baseline_of(config: dict) -> dict:
    """The configuration that trains this run's student on the labels alone."""
    changed = [key for key in config["changed"] if not key.startswith("distill.") and key not in NO_TEACHER]
    model = config["model"] | {"teacher": None}
    return config | {"distill": {**_labels_alone()}, "model": model, "changed": changed} | NO_TEACHER


# what a teacher shares with its student
OF_TEACHERS = ("dataset", "recipe", "augment", "epochs", "batch_size", "precision", "deterministic")


def teachers_of(config: dict) -> list[dict]:
    """The configurations of the runs that train this run's teachers: for a usual student one, `distill=none
    student=<teacher> seed=<teacher_seed>` with OF_TEACHERS from the student and the recipe's own optimizer, stopped at
    teacher_epoch. None for label-only training, and for a teacher from a file."""
    if config["model"]["teacher"] is None or config["teacher_checkpoint"]:
        return []
    teacher = vars(Config()) | {key: config[key] for key in (*OF_TEACHERS, *WHERE) if key in config}
    del teacher["weight_factor"]
    stop = config.get("teacher_epoch")  # an older record may lack a key that was added later
    teacher |= {
        "dataset": vars(Dataset()) | config["dataset"],
        "model": {"teacher": None, "student": config["model"]["teacher"]},
        "distill": {**_labels_alone()},
        "optimizer": _optimizer(json.dumps(config["recipe"])),
        "omit": [],
        "seed": config["teacher_seed"],
        "stop_epoch": stop,
        "rerun": config["rerun"] if config["rerun"] in ("failed", "changed") else "none",  # not all: it may be fine
    }
    changed = [key for key in config.get("changed", ()) if key.partition(".")[0] in OF_TEACHERS]
    return [teacher | {"changed": changed + ["stop_epoch"] * (stop is not None)}]


@functools.cache
def _optimizer(recipe: str) -> dict:
    """The one for which a recipe's values are meant."""
    file = OmegaConf.load(CONF / "optimizer" / "sgd.yaml")
    chosen = OmegaConf.create({"optimizer": file, "recipe": json.loads(recipe)})
    return OmegaConf.to_container(chosen.optimizer, resolve=True)
