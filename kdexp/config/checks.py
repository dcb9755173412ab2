"""Checks that the types of a configuration cannot express: required keys, ranges, choices."""

import dataclasses
import functools
import json
import math

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kdexp.config.schema import AUGMENT, DISTILL, Config, Dataset, Models, Paths, Recipe, flatten
from kdexp.errors import UsageError, first_line

# what a number must be, whether it is, and the keys of such numbers
NUMBERS = (
    (
        "greater than 0",
        lambda value: value > 0,
        "epochs batch_size dataset.channels dataset.limit dataset.limit_test optimizer.lr recipe.lr recipe.epochs "
        "recipe.batch_size distill.kd_temperature",
    ),
    (
        "0 or more",
        lambda value: value >= 0,
        "seed teacher_seed share dataset.validation dataset.padding optimizer.weight_decay recipe.weight_decay "
        "optimizer.momentum recipe.momentum recipe.drop_factor recipe.clip distill.weight distill.ce_weight "
        "distill.kd_weight",
    ),
    ("from 0 to 1: a fraction of the epochs", lambda value: 0 <= value <= 1, "distill.until distill.fade distill.rise"),
    ("from 0 (off) to below 1", lambda value: 0 <= value < 1, "recipe.warmup recipe.smoothing recipe.ema"),
)
CHOICES = {
    "precision": ("auto", "fp32", "bf16"),
    "deterministic": ("auto", True, False),
    "compile": ("auto", True, False, "graph"),
    "keep_logits": ("auto", True, False),
    "rerun": ("none", "failed", "changed", "all"),
    "on_error": ("continue", "stop"),
    "augment.crop_and_flip": (True, False),
    "recipe.padding_mode": ("constant", "reflect"),
    "recipe.schedule": ("step", "cosine", "linear"),  # those of kdexp/training/schedules.py
}
TO_ONE = "pixels are numbers from 0 to 1 here. Divide means and standard deviations of 0 to 255 by 255"
DEVICES = ("auto", "cpu", "cuda", "cuda:N", "mps")


def check_keys(config: dict) -> None:
    """Reject a configuration that lacks a key (`~seed`) or has a value where a section belongs. Raises UsageError."""
    sections = {"": Config, "dataset": Dataset, "recipe": Recipe, "model": Models, "paths": Paths}
    expected = {name: [field.name for field in dataclasses.fields(schema)] for name, schema in sections.items()}
    expected |= {"distill": list(DISTILL), "augment": list(AUGMENT)}
    for section, keys in expected.items():
        node = config[section] if section else config
        if not isinstance(node, dict):
            raise UsageError(f"{section}={node}: must be a section, as in its file in conf/")
        for key in keys:
            if key not in node:
                raise UsageError(f"{section}.{key}".lstrip(".") + ": cannot be left out")


def typed_dataset(node: dict) -> dict:
    """A data set's section, with every key of `Dataset` converted to its type: "10" becomes 10. Raises UsageError for
    values of another type."""
    return json.loads(_typed_dataset(json.dumps(node)))


@functools.cache
def _typed_dataset(node: str) -> str:
    node, types = json.loads(node), OmegaConf.structured(Dataset)
    for key in types:
        try:
            types[key] = node[key]
        except OmegaConfBaseException as error:
            raise UsageError(f"dataset.{key}={node[key]}: {first_line(error)}") from None
    return json.dumps(node | OmegaConf.to_container(types))


def check(config: dict) -> None:
    """Reject values that have the right type but make no sense. Raises UsageError with all of them, one per line."""
    flat, errors = flatten(config), []
    unknown = sorted(set(config) - {*Config.__dataclass_fields__, "changed"})
    errors += [f"{key}={flat.get(key, '...')}: there is no such option" for key in unknown]
    for rule, fits, keys in NUMBERS:
        errors += [
            f"{key}={flat[key]}: must be a number {rule}"
            for key in keys.split()
            if flat.get(key) is not None and not (_is_finite(flat[key]) and fits(flat[key]))
        ]
    for key, allowed in CHOICES.items():
        if not any(flat[key] is value or (flat[key] == value and isinstance(value, str)) for value in allowed):
            errors.append(f"{key}={flat[key]}: must be one of {', '.join(str(value).lower() for value in allowed)}")
    kind, _, index = config["device"].partition(":")
    if kind not in DEVICES or (index and not (kind == "cuda" and index.isdigit())) or config["device"].endswith(":"):
        errors.append(f"device={config['device']}: must be one of {', '.join(DEVICES)}")
    if config["threads"] != "auto" and not (type(config["threads"]) is int and config["threads"] > 0):
        errors.append(f"threads={config['threads']}: must be auto or a number greater than 0")
    errors += _constants(config)
    errors += _omit(config)
    errors += _stops(config)
    errors += _teacher_normalize(config)
    if any(not 0 < drop < 1 for drop in config["recipe"]["drops"]):
        errors.append(f"recipe.drops={config['recipe']['drops']}: fractions of the epochs, between 0 and 1")
    if errors:
        raise UsageError("\n".join(errors))


def _is_finite(value) -> bool:
    """Whether it is a number but neither infinite nor NaN."""
    return type(value) in (int, float) and abs(value) < math.inf


def _constants(config: dict) -> list[str]:
    """What is wrong with the constants that images are normalized with."""
    node, errors = config["dataset"], []
    for key in ("mean", "std"):
        if len(node[key]) != node["channels"]:
            errors.append(f"dataset.{key}={node[key]}: must be one number for each of the {node['channels']} channels")
    if max(node["mean"], default=0) > 1:
        errors.append(f"dataset.mean={node['mean']}: {TO_ONE}")
    return errors


def _omit(config: dict) -> list[str]:
    """What is wrong with the classes that are left out of the student's training."""
    omit, classes = config["omit"], config["dataset"]["num_classes"]
    if omit == sorted({*omit}) and all(0 <= one < classes for one in omit) and len(omit) < classes:
        return []
    return [f"omit={omit}: must be classes from 0 to {classes - 1} in ascending order, not all of them, as in omit=[3]"]


def _stops(config: dict) -> list[str]:
    """What is wrong with the epochs at which the run and its teacher stop."""
    epochs, errors = config["epochs"], []
    for key in ("stop_epoch", "teacher_epoch"):
        value = config[key]
        most = epochs if type(epochs) is int else float("inf")  # other epochs have a message of their own
        if value is not None and not (type(value) is int and 0 <= value <= most):
            errors.append(f"{key}={value}: must be a whole number from 0 (untrained) to epochs={epochs}")
    if config["teacher_epoch"] is not None and config["teacher_checkpoint"]:
        errors.append(
            "teacher_epoch: only for a teacher that is trained here; leave out teacher_checkpoint or teacher_epoch"
        )
    return errors


def _teacher_normalize(config: dict) -> list[str]:
    """What is wrong with teacher_normalize, which goes with a teacher_checkpoint."""
    given = config["teacher_normalize"]
    if given is None:
        return []
    if not config["teacher_checkpoint"]:
        return ["teacher_normalize: only for a teacher of your own; add teacher_checkpoint=FILE, or leave it out"]
    rows = given if isinstance(given, list) else []
    if [len(row) if isinstance(row, list) else 0 for row in rows] == [config["dataset"]["channels"]] * 2:
        means, stds = rows
        numbers = all(map(_is_finite, means + stds))
        if numbers and max(means) > 1:
            return [f"teacher_normalize={given}: {TO_ONE}"]
        if numbers and min(stds) > 0:
            return []
    form = ",".join(f"[{','.join([name] * config['dataset']['channels'])}]" for name in ("mean", "std"))
    return [f"teacher_normalize={given}: must be [{form}], each std greater than 0"]
