"""The only loop. A Learner is a student with its method and optimizer; `fit` trains one or several of them on the
same batches."""

import time
import traceback
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdexp.datasets.batches import TrainBatches
from kdexp.distill.base import DistillMethod
from kdexp.distill.kd import kd_loss
from kdexp.evaluate import Score
from kdexp.models import Output


class Weights(NamedTuple):
    """loss = ce * cross_entropy + method * method(student, teacher) + kd * KD(kd_temperature)."""

    ce: float = 1.0
    method: float = 0.0
    kd: float = 0.0
    kd_temperature: float = 4.0


class Learner:
    """A student that learns, with all that is its own: connectors, optimizer, position, sums of the running epoch.

    forward: what to call for the student's training pass where that is not the student itself (a compiled one).
    half: the dtype of autocast, None for float32. The sums stay on the device until the epoch ends.
    failure: None, or how and why this learner ended early; ("diverged" | "failed", one line, the traceback).
    """

    def __init__(
        self,
        student: nn.Module,
        optimizer: torch.optim.Optimizer,
        method: DistillMethod | None = None,
        weights: Weights = Weights(),
        forward: Callable | None = None,
        half: torch.dtype | None = None,
    ):
        self.student, self.optimizer, self.method, self.weights = student, optimizer, method, weights
        self.forward, self.half = student if forward is None else forward, half
        self.device = next(student.parameters()).device
        self.peak_lrs = [group["lr"] for group in optimizer.param_groups]
        self.epoch, self.step, self.seconds = 0, 0, 0.0
        exact = torch.float32 if self.device.type == "mps" else torch.float64
        self.sums = torch.zeros(5, dtype=exact, device=self.device)  # loss, ce, distill, correct, finite steps
        self.failure: tuple[str, str, str] | None = None
        self.predictions: Tensor | None = None

    @property
    def teacher_mode(self) -> str | None:
        return self.method.teacher_mode if self.method is not None else None

    def learn(self, images: Tensor, labels: Tensor, teacher: Output | None) -> None:
        """One step. images (batch, 3, H, W) normalised, labels (batch,)."""
        w = self.weights
        with torch.autocast(self.device.type, self.half, enabled=self.half is not None):
            student = self.forward(images)
            ce = w.ce * F.cross_entropy(student.logits.float(), labels)
            distill = torch.zeros_like(ce) if self.method is None else w.method * self.method(student, teacher)
            if w.kd:
                distill = distill + w.kd * kd_loss(student.logits, teacher.logits, w.kd_temperature)
        loss = ce + distill
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            correct = (student.logits.argmax(1) == labels).sum()
            finite = loss.isfinite() & (self.sums[4] == self.step)
            self.sums += torch.stack([loss * len(labels), ce * len(labels), distill * len(labels), correct, finite])
        self.step += 1

    def averages(self, images: int) -> dict[str, float]:
        """The epoch's means over `images` images; empties the sums. Notes a loss that was not finite as the failure."""
        loss, ce, distill, correct, finite = self.sums.tolist()
        if finite < self.step:
            self.failure = (
                "diverged",
                f"diverged at epoch {self.epoch + 1} step {int(finite) + 1}: the loss is not finite",
                "",
            )
        self.sums.zero_()
        return {
            "train_loss": loss / images,
            "ce_loss": ce / images,
            "distill_loss": distill / images,
            "train_acc": 100 * correct / images,
        }

    def set_rate(self, factor: float) -> float:
        """Multiply the peak learning rates by `factor`; returns the first group's."""
        for group, peak in zip(self.optimizer.param_groups, self.peak_lrs):
            group["lr"] = peak * factor
        return self.optimizer.param_groups[0]["lr"]

    def state_dict(self) -> dict:
        """All that `load_state_dict` needs to go on exactly here. The draws of order and crops follow from seed and
        position."""
        return {
            "student": self.student.state_dict(),
            "method": {} if self.method is None else self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "sums": self.sums,
            "epoch": self.epoch,
            "step": self.step,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: dict) -> None:
        self.student.load_state_dict(state["student"])
        if self.method is not None:
            self.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.sums.copy_(state["sums"])
        self.epoch, self.step, self.seconds = state["epoch"], state["step"], state["seconds"]


def fit(
    learners: list[Learner],
    batches: TrainBatches,
    teachers: dict[str, Callable],
    schedule: Callable[[int], float],
    epochs: int,
    test: Callable[[nn.Module], Score],
    validate: Callable[[nn.Module], Score] | None = None,
    after_step: Callable[[], None] = lambda: None,
    half: torch.dtype | None = None,
) -> Iterator[list[dict | None]]:
    """Train learners that stand at one position in lock step; yields their rows after each epoch (None for one that
    has failed).

    Each batch is made once and seen by the teacher once per teacher mode in use. teachers: teacher mode -> forward.
    schedule: epoch (from 0) -> factor of the peak learning rates. after_step runs between two steps, where all
    learners are whole and can be saved; what it raises ends the training. A learner that raises or diverges ends
    alone: see `failure`.
    """
    assert len({(learner.epoch, learner.step) for learner in learners}) == 1, (
        "learners of a group stand at one position"
    )
    for epoch in range(learners[0].epoch, epochs):
        rates = [learner.set_rate(schedule(epoch)) for learner in learners]
        began, before = time.perf_counter(), [learner.seconds for learner in learners]
        for images, labels in batches.epoch(epoch, start=next((one.step for one in learners if not one.failure), 0)):
            active = [learner for learner in learners if not learner.failure]
            if not active:
                return
            outputs = _teach(images, teachers, {learner.teacher_mode for learner in active} - {None}, half)
            for learner in active:
                _guarded(learner, images, labels, outputs.get(learner.teacher_mode))
            for learner, spent in zip(learners, before):
                learner.seconds = spent + time.perf_counter() - began
            after_step()
        rows = [_row(learner, rate, batches, test, validate) for learner, rate in zip(learners, rates)]
        for learner, spent, row in zip(learners, before, rows):
            learner.epoch, learner.step, learner.seconds = epoch + 1, 0, 0.0
            if row is not None:
                row["seconds"] = spent + time.perf_counter() - began
        yield rows


@torch.no_grad()
def _teach(
    images: Tensor, teachers: dict[str, Callable], modes: set[str], half: torch.dtype | None
) -> dict[str, Output]:
    with torch.autocast(images.device.type, half, enabled=half is not None):
        return {mode: teachers[mode](images) for mode in sorted(modes)}


def _guarded(learner: Learner, images: Tensor, labels: Tensor, teacher: Output | None) -> None:
    """One step; an error is this learner's failure alone. Its text is kept and not the exception, which would keep
    the memory."""
    try:
        learner.learn(images, labels, teacher)
    except Exception as error:
        line = f"failed at epoch {learner.epoch + 1} step {learner.step + 1}: {type(error).__name__}: {error}"
        learner.failure = ("failed", line, traceback.format_exc())


def _row(
    learner: Learner, rate: float, batches: TrainBatches, test: Callable, validate: Callable | None
) -> dict | None:
    if learner.failure:
        return None
    means = learner.averages(len(batches.data.labels))
    if learner.failure:
        return None
    score = test(learner.student)
    learner.predictions = score.predictions
    return {
        "epoch": learner.epoch + 1,
        "lr": rate,
        **means,
        "test_loss": score.loss,
        "test_acc": score.acc,
        "test_top5": score.top5,
        "val_acc": validate(learner.student).acc if validate else None,
    }
