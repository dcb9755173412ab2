"""Teachers: found, trained on demand or given as a file; always checked before use."""

import copy
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from omegaconf import OmegaConf
from torch import nn

from kdexp import screen
from kdexp.compute.graph import ForwardGraph
from kdexp.compute.interrupt import wait_for
from kdexp.compute.machine import Machine, device_of, forward_of, to_device
from kdexp.config.naming import file_sha256
from kdexp.config.sources import source
from kdexp.errors import UsageError
from kdexp.evaluate import Score, evaluate
from kdexp.experiment.data import Data, load_data
from kdexp.experiment.networks import build_network, load_teacher_checkpoint
from kdexp.jobs.job import Job
from kdexp.storage import seal


class Teacher(NamedTuple):
    """A network on the device in eval mode and its score on the test images.

    origin: what the records of its students say of it: `network` (its name), `fingerprint` (of the run that trained it;
    None for a file), `sha256` (of the file that its weights were read from) and `test_acc` in percent. warning: what a
    reader of the students' numbers should know; may be empty.
    """

    network: nn.Module
    score: Score
    origin: dict
    warning: str = ""


def teacher_view(teacher: nn.Module, mode: str) -> nn.Module:
    """A frozen copy of the teacher for one teacher mode; the teacher's own buffers are never touched.

    "eval": running statistics. "batch_stats": every BatchNorm uses the batch's statistics and tracks none. Raises
    ValueError.
    """
    if mode not in ("eval", "batch_stats"):
        raise ValueError(f"teacher_mode={mode}: must be eval or batch_stats")
    view = copy.deepcopy(teacher).eval().requires_grad_(False)
    for module in view.modules():
        if mode == "batch_stats" and isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train().track_running_stats = False
    return view


def teacher_forward(teacher: nn.Module, mode: str, hardware: Machine, batch_size: int) -> Callable:
    """What to call for the teacher's forward pass in one mode: compiled or captured as a graph if the machine is to do so."""
    forward = forward_of(teacher_view(teacher, mode), hardware, batch_size)
    return ForwardGraph(forward, batch_size) if hardware.graph else forward


def load_network(run_folder: Path) -> nn.Module:
    """See kdexp.load."""
    # status.json says nothing about the network; if damaged, the run's own command repairs it
    if broken := {*seal.damaged(run_folder)} - {"status.json"}:
        raise ValueError(f"{run_folder}: damaged {', '.join(sorted(broken))}; train the run again")
    config = OmegaConf.to_container(OmegaConf.load(run_folder / "config.yaml"))
    node = config["model"]["student"]
    network = build_network(node, config["plugins"])
    made = (seal.read_json(run_folder / "result.json") or {}).get("sources", {})
    if made.get("model.student") not in (None, source(node, config["plugins"])):
        screen.say(f"{run_folder}: the code of {node['_target_']} has changed since it was trained")
    network.load_state_dict(torch.load(run_folder / "student.pt", map_location="cpu", weights_only=True))
    network.config = config
    return network.eval()


class Teachers:
    """The teachers of one command. Each is found or trained on demand once, evaluated before use, and kept for later
    groups."""

    def __init__(self):
        self.data, self.ready = {}, {}

    def data_of(self, job: Job) -> Data:
        """The job's data on its device, read once."""
        if job.data_key not in self.data:
            self.data[job.data_key] = load_data(job.config, device_of(job.config))
        return self.data[job.data_key]

    def of(self, job: Job, train, interrupted) -> list[Teacher]:
        """The job's teachers. `train(job)` trains a missing one, under its lock; `interrupted` can end the wait for
        another process that is training it. Raises UsageError, and the same one again for a teacher that failed
        before."""
        if job.config["teacher_checkpoint"]:
            makers = [lambda: self._from_file(job)]
        else:
            makers = [partial(self._run, job, Job(teacher.config), train, interrupted) for teacher in job.teachers]
        return [self._once(key, make) for key, make in zip(job.teacher_keys, makers)]

    def _once(self, key: str, make: Callable[[], Teacher]) -> Teacher:
        if key not in self.ready:
            try:
                self.ready[key] = make()
            except UsageError as error:
                self.ready[key] = error
        if isinstance(self.ready[key], UsageError):
            raise self.ready[key]
        return self.ready[key]

    def _run(self, job: Job, teacher: Job, train, interrupted) -> Teacher:
        self._train_missing(teacher, train, interrupted)
        teacher.inspect()
        return self._trained(job, teacher)

    def _ready(self, job: Job, network: nn.Module, name: str, file: str | Path, run: Job | None = None) -> Teacher:
        """A network that can teach this job. run: the job that trained it, None for a file of weights."""
        network = to_device(network, device_of(job.config)).eval()
        data = self.data_of(job)
        score = evaluate(network, data.test, data.pixels)
        fingerprint = run.fingerprint if run else None
        origin = {"network": name, "fingerprint": fingerprint, "sha256": file_sha256(file), "test_acc": score.acc}
        untrained = run is not None and run.last_epoch == 0  # which is what was asked for
        warning = "" if untrained else guesses(name, score.acc, len(data.test.labels), network.num_classes)
        if warning:
            screen.say(f"warning {warning}")
        return Teacher(network, score, origin, warning)

    def _from_file(self, job: Job) -> Teacher:
        file = job.config["teacher_checkpoint"]
        name = job.config["model"]["teacher"]["name"]
        teacher = self._ready(job, load_teacher_checkpoint(job.config), name, file)
        screen.say(f"teacher {file}   test {teacher.score.acc:.2f} %")
        return teacher

    def _train_missing(self, teacher: Job, train, interrupted) -> None:
        teacher.check_folder()
        if not teacher.record.lock():
            screen.say(f"waiting for teacher {teacher.pair}: {teacher.holder} is training it   {teacher.record.folder}")
            wait_for(teacher.record, interrupted)
        try:
            teacher.inspect()
            if teacher.to_do:
                which = f"{teacher.pair} seed {teacher.config['seed']}"
                state = "has changed and is trained again" if teacher.outdated else "is missing and trained first"
                screen.say(f"teacher {which} {state}   {teacher.record.folder}")
                train(teacher)
        finally:
            teacher.record.unlock()
        if teacher.taken:
            teacher.taken = False
            self._train_missing(teacher, train, interrupted)

    def _trained(self, job: Job, teacher: Job) -> Teacher:
        """The teacher, if its file is intact (see Job.done) and it scores what its record says."""
        if not teacher.done:
            why = teacher.record.status.get("error")
            raise UsageError(f"no teacher {teacher.pair}: {why}   {teacher.record.folder / 'run.log'}")
        recorded, folder = teacher.record.result["test_acc"], teacher.record.folder
        if not (folder / "student.pt").exists():
            raise UsageError(
                f"{folder / 'student.pt'} is missing: the record was packed without weights. "
                "Get it packed with --weights, or delete its folder to train the teacher again"
            )
        name = teacher.config["model"]["student"]["name"]
        ready = self._ready(job, load_network(folder), name, folder / "student.pt", teacher)
        images = len(ready.score.logits)
        # another machine rounds differently, which moves an image or two in a thousand across the border of two classes
        if abs(ready.score.acc - recorded) / 100 * images > math.ceil(images / 1000) + 0.5:
            raise UsageError(
                f"{folder / 'student.pt'} scores {ready.score.acc:.2f} % here, but its record says {recorded:.2f} %. "
                "To train the teacher again, delete its folder"
            )
        screen.say(f"teacher {folder}   test {ready.score.acc:.2f} %, as recorded")
        return ready


def guesses(name: str, accuracy: float, images: int, classes: int) -> str:
    """A warning if a network is no better than guessing: within three standard errors of it. accuracy: in percent."""
    chance = 1 / classes
    if accuracy / 100 > chance + 3 * math.sqrt(chance * (1 - chance) / images):
        return ""
    return (
        f"teacher {name} is right on {accuracy:.2f} % of {images:,} test images, no better than guessing among "
        f"{classes} classes"
    )
