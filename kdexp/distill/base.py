"""The interface of every distillation method: taps in, one scalar out."""

import functools
import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdexp.models import Output, Tap


class Batch(NamedTuple):
    """What a method may know about a training batch besides the two outputs.

    labels: (batch,), or for mixed images the proportion of each class, (batch, classes), see `hard_labels`. indices:
    (batch,), the images' positions in the training set. progress: the fraction of the epochs that have started,
    including the current one: from 1/epochs to 1.
    """

    labels: Tensor
    indices: Tensor
    progress: float


class Pretraining(NamedTuple):
    """A method's own training before the student's: `epochs` on the same images at a constant learning rate `lr`.

    loss: a scalar from the outputs of student and teacher. Everything its gradient reaches is trained, by SGD with the
    values below, which are RepDistiller's (helper/pretrain.py). trains_student: False if the student takes no part and
    stays unchanged; its output is then None.
    """

    epochs: int
    lr: float
    loss: Callable[[Output | None, Output], Tensor]
    trains_student: bool = True
    momentum: float = 0.9
    weight_decay: float = 5e-4


class DistillMethod(nn.Module):
    """A distillation loss with the connectors it trains.

    A method is built from the taps of student and teacher (channels and sizes) and never sees a network. Connectors are
    submodules: they are trained by the student's optimizer but are not part of the student. Most methods only define
    `forward` on the two outputs; one that needs more overrides `loss`, `begin` or `pretraining`. Random numbers that a
    step draws from torch's generator depend only on (seed, epoch, step).

    reads: the taps it reads besides the logits; a network that lacks one is rejected before any training. An entry is a
    tap's name, or (student's, teacher's) if they differ. "stage*" and "stage*_pre" are all stages that both networks
    have, "last_stage" is the last one of each.
    pools: whether maps of different sizes are pooled with `same_size`; if so, a remark says it.
    version: bumped when a code change changes the method's numbers; part of a run's fingerprint.
    teacher_mode: "eval", or "batch_stats" if the teacher's BatchNorm must use batch statistics.
    hard_labels: whether it needs one class per image, which mixed images (augment=mixup, cutmix) do not have; they are
    then rejected before any training. A method that reads `labels` or `indices` of a batch must set this.
    remarks: what the method does about maps of different shapes, one sentence each; printed once at the start of a run.
    pairs: the names of the taps that `reads` selects from these two networks, as (student's, teacher's). taps: these
    taps themselves.
    """

    version = 1
    teacher_mode = "eval"
    reads: tuple[str | tuple[str, str], ...] = ()
    pools = False
    hard_labels = False

    def __init__(self, student_taps: dict[str, Tap], teacher_taps: dict[str, Tap]):
        super().__init__()
        self.remarks: list[str] = []
        self.pairs = [pair for entry in self.reads for pair in _pairs(entry, student_taps, teacher_taps)]
        self.taps = [(student_taps[ours], teacher_taps[theirs]) for ours, theirs in self.pairs]
        if self.pools:
            for (name, _), (student, teacher) in zip(self.pairs, self.taps):
                self._remark_pooling(name, student, teacher)

    def forward(self, student: Output, teacher: Output) -> Tensor:
        """The loss of the two outputs, a scalar, before its weight."""
        raise NotImplementedError

    def loss(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        """The same, for a method that needs the labels, the images' indices or the training progress."""
        return self(student, teacher)

    def begin(self, labels: Tensor) -> None:
        """Called once before the first step, on the device, with the labels of all training images. Buffers made here
        are saved and resumed with the run."""

    def pretraining(self) -> Pretraining | None:
        """The training that comes before the student's, if the method has one."""
        return None

    def maps(self, student: Output, teacher: Output) -> list[tuple[Tensor, Tensor]]:
        """The features of `pairs`."""
        return [(student.features[ours], teacher.features[theirs]) for ours, theirs in self.pairs]

    def _remark_pooling(self, stage: str, student: Tap, teacher: Tap) -> None:
        """Add a remark if `same_size` will pool one of the two feature maps."""
        if student.size != teacher.size:
            larger = "student" if student.size > teacher.size else "teacher"
            big, small = max(student.size, teacher.size), min(student.size, teacher.size)
            self.remarks.append(f"{stage}: the {larger}'s {big}x{big} map is average-pooled to {small}x{small}")


def _pairs(entry: str | tuple[str, str], student: dict[str, Tap], teacher: dict[str, Tap]) -> list[tuple[str, str]]:
    """The (student's, teacher's) taps that an entry of `reads` stands for."""
    ours, theirs = (entry, entry) if isinstance(entry, str) else entry
    if entry == "last_stage":
        return [(_last_stage(student), _last_stage(teacher))]
    if "*" not in ours:
        return [(ours, theirs)]
    numbered = ((ours.replace("*", str(n)), theirs.replace("*", str(n))) for n in itertools.count(1))
    first = list(itertools.islice(numbered, 3))  # every network must have these
    return first + list(itertools.takewhile(lambda pair: pair[0] in student and pair[1] in teacher, numbered))


def _last_stage(taps: dict[str, Tap]) -> str:
    return next((f"stage{n}" for n in (5, 4) if f"stage{n}" in taps), "stage3")


def full_precision(loss):
    """Decorator: compute a loss in float32 or better, outside autocast. Half-precision arguments, also in lists, are
    cast to float32 first."""

    def cast(value):
        if isinstance(value, (list, tuple)):
            return [cast(item) for item in value]
        half = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
        return value.float() if half else value

    @functools.wraps(loss)
    def in_full_precision(*args, **kwargs):
        with torch.autocast(_device((*args, *kwargs.values())), enabled=False):
            return loss(*map(cast, args), **{name: cast(value) for name, value in kwargs.items()})

    return in_full_precision


def _device(values: Iterable) -> str:
    """The device type of the first tensor among values, which may be lists of tensors."""
    flat = itertools.chain.from_iterable(value if isinstance(value, (list, tuple)) else [value] for value in values)
    return next(value.device.type for value in flat if isinstance(value, Tensor))


class BatchNorm(nn.BatchNorm2d):
    """For connectors. With one value per channel (a batch of one, a 1x1 map) there is no standard deviation: torch's
    BatchNorm raises, this one uses the running statistics."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.numel() == x.shape[1]:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


def same_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Average-pool the larger of two feature maps (batch, channels, height, width) to the size of the smaller."""
    size = [min(a, b) for a, b in zip(student.shape[2:], teacher.shape[2:])]
    return tuple(x if list(x.shape[2:]) == size else average_pool(x, size) for x in (student, teacher))


def average_pool(x: Tensor, size: list[int]) -> Tensor:
    """Average-pool maps (batch, channels, height, width) to `size`, with avg_pool2d where height and width are multiples of
    it. adaptive_avg_pool2d gives the same there, bit for bit if the number of values in a window is a power of two, but its
    backward pass on CUDA is not deterministic."""
    ratios = [divmod(side, to) for side, to in zip(x.shape[2:], size)]
    if max(size) > 1 and not any(rest for _, rest in ratios):
        return F.avg_pool2d(x, [ratio for ratio, _ in ratios])
    return F.adaptive_avg_pool2d(x, size)  # to 1x1 it is a mean, which is deterministic


def check_widths(student: Sequence[int], teacher: Sequence[int]) -> None:
    """Raises ValueError unless all are equal."""
    if list(student) != list(teacher):
        raise ValueError(f"needs a pair of equal widths; the student's are {[*student]}, the teacher's {[*teacher]}")


def warmed_up(progress: float, share: float) -> float:
    """Factor of a loss that warms up linearly over this fraction of the epochs: 1 from the last of these on."""
    return min(progress / share, 1.0) if share > 0 else 1.0


def unit_rows(x: Tensor, smallest: float = 1e-6) -> Tensor:
    """x divided by its norm along the last dimension; rows with a norm below `smallest` give zero and no gradient.

    Dividing by max(norm, 1e-12), as the reference code does, gives the same values, but gradients of 1e9 and more for
    such rows.
    """
    norm = x.norm(dim=-1, keepdim=True)
    return torch.where(norm > smallest, x / norm.clamp(min=smallest), 0.0)
