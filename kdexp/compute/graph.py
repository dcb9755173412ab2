"""compile=graph: the kernels of a step are captured once as a CUDA graph and replayed, instead of launched from Python.

A step of a small network is hundreds of kernels of a few microseconds, and Python takes longer to launch one than the device
takes to run it. The teacher's pass is one graph, each student's step another: forward pass, loss, backward pass, optimizer.
The students' graphs wait for the teacher's and run side by side, each on its own stream.

A graph repeats what it captured: the same tensors, shapes and numbers. So its inputs are copied into fixed tensors, the
smaller last batch of an epoch is trained as usual, and a step is captured again when a learning rate or a weight of the loss
changes. What cannot be repeated (random draws such as dropout's, a value that Python asks for) is trained as usual, with a
line that says so.
"""

import contextlib
import warnings
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from kdexp import screen
from kdexp.errors import first_line
from kdexp.models import Output

WARMUP = 3  # full batches before the capture: optimizer state is made in the first, and cuDNN chooses its algorithms


def cuda_graph(function: Callable[[], None], stream: "torch.cuda.Stream | None") -> Callable[[], None]:
    """Capture the kernels that `function` launches, which do not run yet; returns what runs them. Raises RuntimeError if
    they cannot be captured."""
    graph, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    try:
        with torch.cuda.graph(graph, stream=stream):
            function()
    finally:
        torch.cuda.set_stream(before)  # torch stays on the stream of a capture that failed
    return graph.replay


@contextlib.contextmanager
def waits(device: torch.device) -> Iterator[list]:
    """Collects a warning each time Python waits for the device. Checked before a capture, because one that fails can leave
    torch's memory allocator in a bad state."""
    told: list[warnings.WarningMessage] = []
    if device.type != "cuda":
        yield told
        return
    mode = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as every:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield told
        finally:
            torch.cuda.set_sync_debug_mode(mode)
            told += [one for one in every if "called a synchronizing CUDA operation" in str(one.message)]


class Captured:
    """`function` of tensors and None, nested in tuples and dicts, captured for these inputs. An input in `steady` is read where
    it is, any other one is copied to a place of its own. Calling it returns the same output tensors each time, with new values."""

    def __init__(self, function: Callable, given, steady: list[Tensor], capture: Callable, stream=None):
        tensors, form = tree_flatten(given)
        place = lambda one: one if one is None or any(one is other for other in steady) else one.clone()
        self.inputs = [place(one) for one in tensors]
        self.output = None

        def run():
            self.output = function(*tree_unflatten(self.inputs, form))

        self.replay = capture(run, stream)

    def __call__(self, given):
        for mine, new in zip(self.inputs, tree_flatten(given)[0]):
            if mine is not new:
                mine.copy_(new)
        self.replay()
        return self.output


class ForwardGraph:
    """The forward pass of a frozen network. Its outputs are overwritten by the next pass."""

    def __init__(self, forward: Callable[[Tensor], Output], batch_size: int, capture: Callable = cuda_graph):
        self.forward, self.batch_size, self.capture = forward, batch_size, capture
        self.seen = 0
        self.captured: Callable[[tuple], Output] | None = None

    def __call__(self, images: Tensor) -> Output:
        full = len(images) == self.batch_size
        self.seen += full
        if not full or self.seen <= WARMUP:
            return self.forward(images)
        if self.captured is None:
            self._capture(images)
        return self.captured((images,))

    def _capture(self, images: Tensor) -> None:
        try:
            self.captured = Captured(self.forward, (images,), [], self.capture)
        except RuntimeError as error:
            screen.say(f"compile=graph: the teacher's pass is not captured ({first_line(error)})")
            self.captured = lambda given: self.forward(*given)
