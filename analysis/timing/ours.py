"""kdexp's own loop, for the benchmark: trains the methods of one seed as a sweep does, or several seeds at a time."""

import contextlib
import multiprocessing
from pathlib import Path

import numpy as np
import torch

from kdexp.compute.machine import Machine, device_of, machine, prepare_torch, to_device
from kdexp.datasets import Images
from kdexp.datasets.batches import Pixels
from kdexp.errors import UsageError
from kdexp.evaluate import evaluate
from kdexp.experiment.data import Data, load_data, train_batches
from kdexp.experiment.networks import build_network
from kdexp.teachers import teacher_forward
from kdexp.training.loop import fit
from kdexp.training.start import build_learner


class Enough(Exception):
    """Raised when a block has run its steps."""


class Ours:
    """Any number of methods side by side, as a sweep trains them."""

    def __init__(self, configs: list[dict], data, teacher, hardware: Machine):
        self.config, self.data, self.hardware = configs[0], data, hardware
        self.learners = [build_learner(config, hardware, teacher, data.train.labels) for config in configs]
        modes = {learner.teacher_mode for learner in self.learners} - {None}
        self.teachers = {mode: teacher_forward(teacher, mode, hardware, self.config["batch_size"]) for mode in modes}

    def steps(self, count: int) -> None:
        def enough():
            nonlocal count
            count -= 1
            if not count:
                raise Enough

        try:
            batches = train_batches(self.config, self.data)
            test = lambda student: evaluate(student, self.data.test, self.data.pixels)
            for _ in fit(self.learners, batches, self.teachers, lambda epoch: 1.0, 10**6, test, after_step=enough):
                pass
        except Enough:
            pass
        for learner in self.learners:
            if learner.failure:  # the others would be timed as if they were all
                raise RuntimeError(learner.failure[1])


class SeedsAtATime:
    """`Ours` in several processes, each with one seed and an equal share of the CPU threads, as with engine=joblib."""

    def __init__(self, configs: list[dict], workers: int):
        context, self.ends = multiprocessing.get_context("spawn"), []
        threads = max(1, torch.get_num_threads() // workers)
        for seed in range(1, workers + 1):
            here, there = context.Pipe()
            work = ([config | {"seed": seed, "threads": threads} for config in configs], there)
            context.Process(target=_work, args=work, daemon=True).start()
            self.ends.append(here)
        for end in self.ends:
            end.recv()

    def steps(self, count: int) -> None:
        """Run `count` steps in total, split equally over the processes."""
        for end in self.ends:
            end.send(max(1, count // len(self.ends)))
        for end in self.ends:
            end.recv()


def _work(configs: list[dict], end) -> None:
    data, _, teacher, hardware = prepared(configs)
    ours = Ours(configs, data, teacher, hardware)
    with contextlib.suppress(EOFError):  # the benchmark is over
        while True:
            end.send("ready")
            ours.steps(end.recv())


def prepared(configs: list[dict]) -> tuple:
    """(data, its description, teacher, machine) of these runs; the teacher is untrained, which takes just as long."""
    data, source = _dataset(configs[0], device_of(configs[0]))
    hardware = machine(configs[0], len(data.train.labels))
    prepare_torch(hardware)
    teacher = build_network(configs[-1]["model"]["teacher"])
    return data, source, to_device(teacher, hardware.device), hardware


def _dataset(config: dict, device: torch.device):
    """(data, its description): real CIFAR-100 if it is there, else random images of the same shape."""
    try:
        if not Path(config["paths"]["data"], "cifar-100-python").exists():
            raise UsageError("not there")
        return load_data(config, device), "real CIFAR-100"
    except UsageError:
        rng = np.random.default_rng(0)
        made = Images(
            torch.from_numpy(rng.integers(0, 256, (10000, 3, 32, 32), dtype=np.uint8)), torch.arange(10000) % 100
        )
        pixels = Pixels(config["dataset"]["mean"], config["dataset"]["std"], device)
        return Data(made.to(device), None, made.first(1000).to(device), pixels), "random images"
