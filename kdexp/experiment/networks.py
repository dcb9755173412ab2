"""Networks: as they are initialized, and with weights from a file (teacher_checkpoint), made by kdexp or by another program."""

import functools
import json
from collections.abc import Iterator

import torch
from torch import nn

from kdexp.compute.randomness import seeded
from kdexp.config.naming import file_sha256
from kdexp.config.resolve import networks
from kdexp.config.targets import ShapesOnly, construct
from kdexp.errors import UsageError
from kdexp.models.foreign import Renormalised, load_weights


def build_network(node: dict, plugins=()) -> nn.Module:
    return construct(node, (), plugins)


def build_student(config: dict) -> nn.Module:
    """The student with the initial weights that every method of its seed starts from."""
    with seeded(config["seed"], "student"):
        return build_network(config["model"]["student"], config["plugins"])


@functools.cache
def shapes(node: str, plugins: tuple) -> nn.Module:
    """A network without values, built once for all pairs that use it."""
    return build_network(json.loads(node), plugins)


def load_teacher_checkpoint(config: dict) -> nn.Module:
    """The teacher with the weights of the file. Raises UsageError for a file that cannot be read or does not fit."""
    node, data, file = config["model"]["teacher"], config["dataset"], config["teacher_checkpoint"]
    network = build_network(node, config["plugins"])
    try:
        load_weights(network, file, node["name"], _known(config))
    except ValueError as error:
        raise UsageError(f"teacher_checkpoint={file} {error}") from None
    constants = config["teacher_normalize"]
    return Renormalised(network, (data["mean"], data["std"]), constants) if constants else network


def _known(config: dict) -> Iterator[tuple[str, nn.Module]]:
    """The networks of conf/model by name, for this data set, on the meta device; each is built when it is asked
    for."""
    for node in networks(config):
        try:
            with torch.device("meta"), ShapesOnly():
                network = build_network(node, config["plugins"])
        except UsageError:  # from a library that is not installed
            continue
        yield node["name"], network


def check_teacher_checkpoint(config: dict) -> None:
    """Check the file before anything is written to disk, once for each file and network. Raises UsageError."""
    if config["teacher_checkpoint"]:
        keys = ("dataset", "plugins", "teacher_checkpoint", "teacher_normalize")
        chosen = {key: config[key] for key in keys} | {"model": {"teacher": config["model"]["teacher"]}}
        if refusal := _refusal(json.dumps(chosen), file_sha256(config["teacher_checkpoint"])):
            raise UsageError(refusal)


@functools.cache
def _refusal(chosen: str, sha256: str) -> str | None:
    try:
        load_teacher_checkpoint(json.loads(chosen))
    except UsageError as error:
        return str(error)
    return None
