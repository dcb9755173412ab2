"""What every distillation method is: taps in, one scalar out."""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdexp.models import Output, Tap


class DistillMethod(nn.Module):
    """A distillation loss with the connectors it trains.

    A method is built from the taps of student and teacher (channels and sizes) and never sees a network. Connectors are
    submodules: they train in the student's optimizer and are no part of the student.

    reads: the taps it reads beside the logits; a network that lacks one is refused before anything is trained.
    pools: whether maps of different size are brought together by `same_size`, which is then remarked.
    version: raised when a change of the code changes the method's numbers; part of a run's fingerprint.
    teacher_mode: "eval", or "batch_stats" where the teacher's BatchNorm must use the statistics of the batch.
    remarks: what the method does about pairs of different shape, one sentence each; printed once at the start of a run.
    """

    version = 1
    teacher_mode = "eval"
    reads: tuple[str, ...] = ()
    pools = False

    def __init__(self, student_taps: dict[str, Tap], teacher_taps: dict[str, Tap]):
        super().__init__()
        self.remarks: list[str] = []
        for tap in self.reads:
            student, teacher = student_taps[tap], teacher_taps[tap]
            if self.pools:
                self._remark_pooling(tap, student, teacher)

    def forward(self, student: Output, teacher: Output) -> Tensor:
        """The summed loss, a scalar, before its weight."""
        raise NotImplementedError

    def _remark_pooling(self, stage: str, student: Tap, teacher: Tap) -> None:
        """Remark that `same_size` will pool one of the two feature maps."""
        if student.size != teacher.size:
            larger = "student" if student.size > teacher.size else "teacher"
            big, small = max(student.size, teacher.size), min(student.size, teacher.size)
            self.remarks.append(f"{stage}: the {larger}'s {big}x{big} map is average-pooled to {small}x{small}")


def full_precision(loss):
    """Decorator: compute a loss in float32 or better, outside autocast; half-precision arguments are cast up first."""

    def cast(value):
        half = isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16)
        return value.float() if half else value

    @functools.wraps(loss)
    def in_full_precision(*args, **kwargs):
        device = next(value.device.type for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        with torch.autocast(device, enabled=False):
            return loss(*map(cast, args), **{name: cast(value) for name, value in kwargs.items()})

    return in_full_precision


def same_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Average-pool the larger of two feature maps (batch, channels, height, width) to the size of the smaller."""
    size = [min(a, b) for a, b in zip(student.shape[2:], teacher.shape[2:])]
    return tuple(x if list(x.shape[2:]) == size else F.adaptive_avg_pool2d(x, size) for x in (student, teacher))


def unit_rows(x: Tensor, smallest: float = 1e-6) -> Tensor:
    """x divided by its norm along the last dimension; rows with a norm below `smallest` give zero and no gradient.

    Dividing by max(norm, 1e-12), as the reference codes do, gives the same values but gradients of 1e9 and more at
    such rows.
    """
    norm = x.norm(dim=-1, keepdim=True)
    return torch.where(norm > smallest, x / norm.clamp(min=smallest), 0.0)
