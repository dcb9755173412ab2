"""`python -m kdexp.evaluate`: scores trained networks again, on the same or other images."""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import kdexp
from kdexp import screen
from kdexp.command.record import SELECT, split
from kdexp.compute.machine import device_of, to_device
from kdexp.datasets import DatasetError, Images
from kdexp.datasets.batches import Pixels
from kdexp.errors import UsageError
from kdexp.evaluate import evaluate
from kdexp.evaluate.measures import calibration
from kdexp.evaluate.sets import SETS
from kdexp.experiment.data import load_data
from kdexp.record import runs
from kdexp.screen import counted
from kdexp.spelling import as_typed
from kdexp.storage import seal
from kdexp.storage.files import write_atomically

PARTS = {"test": "test", "held-out": "validation"}  # of the run's own data
HEAD = f"{'top-1':>7} {'top-5':>7} {'loss':>8} {'ECE':>6} {'Brier':>7}   of"
USAGE = """python -m kdexp.evaluate [OUTPUTS ...] [KEY=VALUE ...] [--on SET ...]
       python -m kdexp.evaluate FILE teacher=NETWORK dataset=NAME [--on SET ...]"""
EXAMPLES = """examples:
  python -m kdexp.evaluate outputs/cifar10/resnet56-resnet20/kd/base/seed1
  python -m kdexp.evaluate dataset=cifar10 distill=kd,sp --on cifar10.1
  python -m kdexp.evaluate resnet20.th teacher=resnet20a dataset=cifar10 "teacher_normalize=[[m,m,m],[s,s,s]]\""""


def parser() -> argparse.ArgumentParser:
    line = argparse.ArgumentParser(
        prog=as_typed("python -m kdexp.evaluate"),
        usage=as_typed(USAGE),
        description="Accuracy (%), loss, expected calibration error (%) and Brier score of trained networks. For runs, they "
        "are also written to the run's folder as evaluated-SET.json, for summarize.py --metric SET.acc.",
        epilog=as_typed(EXAMPLES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    line.add_argument(
        "words", nargs="*", metavar="OUTPUTS, KEY=VALUE", help=f"{SELECT} FILE: a file of weights, see README"
    )
    line.add_argument(
        "--on",
        nargs="+",
        default=["test"],
        metavar="SET",
        choices=(*PARTS, *SETS),
        help="test (default), held-out (dataset.validation), " + ", ".join(SETS),
    )
    line.add_argument("--data", type=Path, help="folder of the images (default: the run's)")
    return line


class Data:
    """The image sets of one command, each read once."""

    def __init__(self, root: Path | None):
        self.root = root
        self.read: dict[str, Any] = {}

    def of(self, config: dict, name: str) -> dict[str, Images]:
        """The images of a set for this run's networks: name -> images. Raises UsageError."""
        root = self.root or Path(config["paths"]["data"])
        config = config | {"paths": config["paths"] | {"data": str(root)}}
        key = json.dumps([config["dataset"] if name not in SETS else name, str(root)])
        if key not in self.read:
            try:
                self.read[key] = SETS[name](root) if name in SETS else load_data(config, torch.device("cpu"))
            except DatasetError as error:
                raise UsageError(f"{name}: {error}") from None
        if name in SETS:
            return self.read[key]
        part = getattr(self.read[key], PARTS[name])
        if part is None:
            raise UsageError("--on held-out: this run held out no images (dataset.validation=N)")
        return {name: part}


def measure(network: torch.nn.Module, config: dict, images: Images) -> tuple[dict, np.ndarray]:
    """(scores, predicted classes) of a network with this configuration on these images. Raises UsageError."""
    device, data = device_of(config), config["dataset"]
    classes, (channels, size) = int(images.labels.max()) + 1, images.images.shape[1:3]
    if size != data["image_size"] or channels != len(data["mean"]) or classes > network.num_classes:
        raise UsageError(
            f"these images have {size} pixels, {counted(channels, 'channel')} and {classes} classes; "
            f"the network expects {data['image_size']}, {len(data['mean'])} and {network.num_classes}"
        )
    pixels = Pixels(config["dataset"]["mean"], config["dataset"]["std"], device)
    score = evaluate(to_device(network, device), images.to(device), pixels)
    more = calibration(score.logits.cpu(), images.labels)
    numbers = {"images": len(images.labels), "acc": score.acc, "top5": score.top5, "loss": score.loss}
    return numbers | {key: more[key] for key in ("ece", "brier")}, score.predictions.cpu().numpy()


def line_of(numbers: dict, name: str, title: str) -> str:
    return (
        f"{numbers['acc']:7.2f} {numbers['top5']:7.2f} {numbers['loss']:8.4f} {numbers['ece']:6.2f} "
        f"{numbers['brier']:7.4f}   {title}   {name}, {numbers['images']:,} images"
    )


def of_run(folder: Path, sets: list[str], data: Data) -> Iterator[str]:
    """Score a run and write the scores to its folder: one line per set."""
    network = kdexp.load(folder)
    for name in sets:
        for part, images in data.of(network.config, name).items():
            numbers, predictions = measure(network, network.config, images)
            note = _compared(folder, numbers, predictions) if part == "test" else ""
            result = seal.read_json(folder / "result.json") or {}
            content = {"set": part, **numbers, "student_sha256": result.get("student_sha256")}
            text = json.dumps(content | {"seal": seal.of_result(content)}, indent=1)
            write_atomically(folder / f"evaluated-{part}.json", text.encode())
            yield line_of(numbers, part, str(folder)) + note


def _compared(folder: Path, numbers: dict, predictions: np.ndarray) -> str:
    """Whether the run's own record agrees."""
    recorded = np.load(folder / "predictions.npy")
    other = int((recorded != predictions).sum()) if len(recorded) == len(predictions) else len(recorded)
    same = other == 0 and numbers["acc"] == (seal.read_json(folder / "result.json") or {}).get("test_acc")
    return ", as recorded" if same else f", {other} of {len(recorded):,} predictions differ from the record"


def of_file(file: str, words: list[str], sets: list[str], data: Data) -> Iterator[str]:
    """Score a file of weights, with network and dataset typed as for run.py: one line per set."""
    from hydra import compose

    from kdexp.command import cli
    from kdexp.config import plugins, resolve
    from kdexp.config.compose import initialised
    from kdexp.experiment.networks import load_teacher_checkpoint

    if not any(word.startswith(("teacher=", "model/teacher=")) for word in words):
        raise UsageError(f"{file}: say which network it is, as in teacher=resnet56 dataset=cifar10")
    with cli.messages(), initialised():
        cli.register(plugins.typed(words))
        config = resolve.plain(compose("config", cli.arguments([*words, f"teacher_checkpoint={file}"])))
        network = load_teacher_checkpoint(config)
    for name in sets:
        for part, images in data.of(config, name).items():
            yield line_of(measure(network, config, images)[0], part, file)


def show(lines: Iterable[str]) -> None:
    """Print each line as soon as it is measured. If nothing can be measured, no header is printed either."""
    for number, line in enumerate(lines):
        print(line if number else f"{HEAD}\n{line}", flush=True)


def main(typed: list[str] | None = None) -> None:
    line = parser()
    arguments = line.parse_intermixed_args(typed)  # words may follow an option
    words, data = arguments.words, Data(arguments.data)
    absent = [word for word in words if "=" not in word and Path(word).suffix and not Path(word).exists()]
    try:
        if absent:
            raise UsageError(f"{absent[0]}: there is no such file")
        files = [word for word in words if Path(word).is_file()]
        if files:
            more = [word for word in words if word not in files]
            show(line for file in files for line in of_file(file, more, arguments.on, data))
            return
        outputs, conditions = split(words)
        chosen = [run for run in runs.select(runs.find(outputs), conditions) if run.state == "done"]
        whole = [run for run in chosen if (run.folder / "student.pt").exists()]
        if not whole:
            raise UsageError(f"{', '.join(outputs)}: no finished run with weights here")
        show(line for run in whole for line in of_run(run.folder, arguments.on, data))
        if whole != chosen:
            screen.say(f"skipped {screen.counted(len(chosen) - len(whole), 'run')}, packed without weights")
    except (UsageError, ValueError) as error:
        sys.exit(as_typed(str(error)))
