"""Data sets, their splits, and training batches."""

from collections.abc import Callable
from typing import NamedTuple

import torch

from kdexp import screen
from kdexp.augment import Augmentation
from kdexp.config.schema import AUGMENT, DATASET
from kdexp.config.targets import construct, constructor, parameters
from kdexp.datasets import DatasetError, Images, split_validation, without_classes
from kdexp.datasets.batches import Pixels, TrainBatches
from kdexp.datasets.checks import check_images
from kdexp.errors import UsageError


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
        train, test, *remarks = reader(config)(config["paths"]["data"], **parameters(node, DATASET))
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


def reader(config: dict) -> Callable:
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
