"""The only loop: `fit` trains one or several learners on the same batches."""

import contextlib
import time
import traceback
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from kdexp.datasets.batches import TrainBatches
from kdexp.distill.base import Batch
from kdexp.errors import first_line
from kdexp.evaluate import Score
from kdexp.training.learner import Learner


class OutOfMemory(Exception):
    """The students of a group do not fit side by side; none of them is to blame."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether the device, or on the CPU the system, ran out of memory; torch has no class for the latter."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def fit(
    learners: list[Learner],
    batches: TrainBatches,
    teachers: dict[str, Callable],
    schedule: Callable[[int], float],
    epochs: int,
    test: Callable[[nn.Module], Score] | None,
    validate: Callable[[nn.Module], Score] | None = None,
    after_step: Callable[[], None] = lambda: None,
    may_split: bool = False,
    stop: int | None = None,
) -> Iterator[list[dict | None]]:
    """Train learners at the same position in lockstep; yields their rows after each epoch (None for one that has
    failed).

    Each batch is made once and seen by the teacher once per teacher mode in use. teachers: teacher mode -> forward.
    schedule: epoch (from 0) -> factor of the peak learning rates. stop: how many of the epochs to train, None for all.
    test, validate: score a network after each epoch, None to skip it. after_step runs between two steps, when every
    learner can be saved; an exception from it ends the training. If a learner raises or diverges, only that one ends:
    see `failure`. may_split: raise OutOfMemory if several learners do not fit, so that the caller can train fewer at a
    time; otherwise it counts as a failure of the learner whose turn it was.
    """
    assert len({(learner.epoch, learner.step) for learner in learners}) == 1, (
        "learners of a group must be at the same position"
    )
    for epoch in range(learners[0].epoch, epochs if stop is None else stop):
        for learner in learners:
            learner.begin_epoch(epoch, epochs, schedule(epoch))
        began, before = time.perf_counter(), [learner.seconds for learner in learners]
        start = next((one.step for one in learners if not one.failure), 0)
        for images, labels, indices in batches.epoch(epoch, start):
            active = [learner for learner in learners if not learner.failure]
            if not active:
                return
            batch = Batch(labels, indices, (epoch + 1) / epochs)
            _step(active, images, batch, teachers, may_split and len(active) > 1)
            for learner, spent in zip(learners, before):
                learner.seconds = spent + time.perf_counter() - began
            after_step()
        rows = [_row(learner, batches, test, validate) for learner in learners]
        for learner, spent, row in zip(learners, before, rows):
            learner.epoch, learner.step, learner.seconds = epoch + 1, 0, 0.0
            if row is not None:
                row["seconds"] = spent + time.perf_counter() - began
        yield rows


def _step(active: list[Learner], images: Tensor, batch: Batch, teachers: dict[str, Callable], may_split: bool) -> None:
    """Run the teacher once per mode, then every learner; an error ends only the learners it affects."""
    outputs, half = {}, active[0].half
    for mode in sorted({learner.teacher_mode for learner in active} - {None}):
        with _ending([one for one in active if one.teacher_mode == mode], may_split), torch.no_grad():
            with torch.autocast(images.device.type, half, enabled=half is not None):
                outputs[mode] = teachers[mode](images)
    for learner in active:
        if not learner.failure:
            with _ending([learner], may_split):
                learner.learn(images, batch, outputs.get(learner.teacher_mode))
    for learner in active:
        learner.join()


@contextlib.contextmanager
def _ending(learners: list[Learner], may_split: bool):
    """An error inside counts as a failure of these learners alone. Only its text is kept: the exception would hold on
    to memory."""
    try:
        yield
    except Exception as error:
        if may_split and is_out_of_memory(error):
            raise OutOfMemory from None
        kind, trace = f"{type(error).__name__}: {first_line(error)}", traceback.format_exc()
    else:
        return
    for learner in learners:
        learner.fail("failed", f"failed at epoch {learner.epoch + 1} step {learner.step + 1}: {kind}", trace)


def _row(learner: Learner, batches: TrainBatches, test: Callable | None, validate: Callable | None) -> dict | None:
    if learner.failure:
        return None
    means = learner.averages(len(batches.data.labels))
    if learner.failure:
        return None
    row = {"epoch": learner.epoch + 1, "lr": learner.optimizer.param_groups[0]["lr"], **means}
    if test is None:
        return row
    with _ending([learner], may_split=False):
        score = test(learner.scored)
        learner.score = score
        row |= {"test_loss": score.loss, "test_acc": score.acc, "test_top5": score.top5}
        row["val_acc"] = validate(learner.scored).acc if validate else None
    return None if learner.failure else row
