"""compile=graph: a learner's step as a CUDA graph, see kdexp/compute/graph.py."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

from kdexp import screen
from kdexp.compute.graph import WARMUP, Captured, cuda_graph, waits
from kdexp.distill.base import Batch, DistillMethod
from kdexp.errors import first_line
from kdexp.models import Output
from kdexp.training.learner import Learner


class StepGraph:
    """A learner's step. capture: a stand-in for `cuda_graph`, for tests without a GPU."""

    def __init__(self, learner: Learner, batch_size: int, capture: Callable = cuda_graph):
        self.learner, self.batch_size, self.capture = learner, batch_size, capture
        self.stream = torch.cuda.Stream(learner.device) if learner.device.type == "cuda" else None
        self.seen, self.refused = 0, False
        self.captured: Captured | None = None
        self.constants: tuple = ()  # the numbers in the captured step
        self.last: list[Tensor] = []  # the inputs of the previous step

    def __call__(self, images: Tensor, batch: Batch, teacher: Output | None) -> None:
        """One step of the learner, a replay if there is a graph for it."""
        full = len(images) == self.batch_size
        self.seen += full
        if self.refused or not full:
            return self.learner.eager(images, batch, teacher)
        given = (images, batch.labels, batch.indices, teacher)
        early = self.seen <= WARMUP + 1  # the teacher's graph comes first, and its output is then read in place
        if early or not self._ready(given, batch):
            self._watched(images, batch, teacher)
        else:
            with self._beside():
                self.captured(given)
        self.last = tree_flatten(given)[0]

    @contextlib.contextmanager
    def _beside(self) -> Iterator[None]:
        """On this learner's own stream, after what was launched before. Also for the steps before the capture: autograd
        keeps the stream on which a weight first got its gradient."""
        if self.stream is not None:
            self.stream.wait_stream(torch.cuda.current_stream(self.stream.device))
        with torch.cuda.stream(self.stream):  # without a stream, this does nothing
            yield

    def join(self) -> None:
        """Let what follows wait for this learner's stream."""
        if self.stream is not None:
            torch.cuda.current_stream(self.stream.device).wait_stream(self.stream)

    def _watched(self, images: Tensor, batch: Batch, teacher: Output | None) -> None:
        """A step without a graph. A learner that draws random numbers or waits for the device in it
        will not get one."""
        self.learner.seed_draws()
        before = _generators(self.learner.device)
        with waits(self.learner.device) as waited, self._beside():
            self.learner.advance(images, batch, teacher)
        if not self.refused and not torch.equal(before, _generators(self.learner.device)):
            self._refuse("it draws random numbers")
        elif not self.refused and waited and self.seen == WARMUP:  # the first step may set things up
            self._refuse("Python waits for a value in it")

    def _ready(self, given: tuple, batch: Batch) -> bool:
        """Whether there is a graph with these numbers; captures one if not."""
        learner = self.learner
        rates = tuple(group["lr"] for group in learner.optimizer.param_groups)
        told = learner.method is not None and type(learner.method).loss is not DistillMethod.loss
        constants = (learner.now, rates, batch.progress if told else None)
        if constants != self.constants:
            self.captured = None  # frees its memory first
            try:
                advance = lambda images, labels, indices, teacher: learner.advance(
                    images, Batch(labels, indices, batch.progress), teacher
                )
                self.captured = Captured(advance, given, self.last, self.capture, self.stream)
                self.constants = constants
            except RuntimeError as error:
                learner.optimizer.zero_grad(set_to_none=True)  # what the failed capture has left
                self._refuse(first_line(error))
        return self.captured is not None

    def _refuse(self, why: str) -> None:
        self.refused, self.captured = True, None
        method = "the baseline" if self.learner.method is None else type(self.learner.method).__name__
        screen.say(f"compile=graph: a step of {method} is not captured ({why})")


def _generators(device: torch.device) -> Tensor:
    """The state of torch's generators, as bytes."""
    states = [torch.get_rng_state()]
    if device.type == "cuda":
        states.append(torch.cuda.get_rng_state(device))
    return torch.cat(states)
