"""VID: Ahn et al. 2019, "Variational Information Distillation for Knowledge Transfer".

    L = sum over stages of mean over (b, c, h, w) of 1/2 [ (r(s) - t)^2 / v_c + log v_c ],    v_c = log(1 + e^a_c) + 1e-5

s, t: feature maps of student and teacher, r: a regressor of three 1x1 convolutions, a_c: a trained raw scale for each
teacher channel, initialized so that v starts at 5.

Follows RepDistiller (distiller_zoo/VID.py), where the loss is a mean over positions and channels and there is no term for
the logits. Differs from it: (1) log(1 + e^a) is a softplus, which does not overflow; RepDistiller's is infinite for a
above 88 in float32. In mdistiller the raw scales are not passed to the optimizer; here they are trained, as in
RepDistiller.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdexp.distill.base import DistillMethod, full_precision, same_size
from kdexp.models import Output, Tap

EPS = 1e-5


@full_precision
def vid_loss(prediction: Tensor, raw_scale: Tensor, target: Tensor) -> Tensor:
    """Mean negative log likelihood, without its constant, of the target under N(prediction, v). Both are (batch, channels,
    H, W); the larger is pooled. raw_scale: a_c, (channels,)."""
    prediction, target = same_size(prediction, target)
    variance = (F.softplus(raw_scale) + EPS).view(1, -1, 1, 1)
    return ((prediction - target).square() / variance + variance.log()).mean() / 2


class Regressor(nn.Module):
    """Predicts a teacher's map from the student's, and the teacher's variance around the prediction."""

    def __init__(self, student: Tap, teacher: Tap, variance: float):
        super().__init__()
        wide = teacher.channels
        self.convolutions = nn.Sequential(
            nn.Conv2d(student.channels, wide, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(wide, wide, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(wide, wide, 1, bias=False),
        )
        self.raw_scale = nn.Parameter(torch.full((wide,), math.log(math.expm1(variance - EPS))))

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The loss of one stage. If the student's map is larger, it is pooled before the regressor, as in RepDistiller."""
        student, teacher = same_size(student, teacher)
        return vid_loss(self.convolutions(student), self.raw_scale, teacher)


class VID(DistillMethod):
    """Sum over the stages. variance: v at the start. If maps differ in size, the larger is average-pooled."""

    reads = ("stage*",)
    pools = True

    def __init__(self, student_taps: dict[str, Tap], teacher_taps: dict[str, Tap], variance: float = 5.0):
        super().__init__(student_taps, teacher_taps)
        if not variance > EPS:
            raise ValueError(f"variance={variance}: must be greater than {EPS}")
        self.regressors = nn.ModuleList(Regressor(student, teacher, variance) for student, teacher in self.taps)

    def forward(self, student: Output, teacher: Output) -> Tensor:
        maps = self.maps(student, teacher)
        return sum(regressor(s, t) for regressor, (s, t) in zip(self.regressors, maps))
