"""OD: Heo et al. 2019, "A Comprehensive Overhaul of Feature Distillation", section 3.

    L = 1/batch * sum_g 2^(g-3) * sum over (b, c, h, w) of (r_g(s_g) - t')^2 * [ r_g(s_g) > t'  or  t' > 0 ]
    t' = max(t_g, margin_g)

s_g, t_g: stage g = 1, 2, 3 before its ReLU, r_g: 1x1 convolution and BatchNorm, margin_g: the mean of the teacher's
negative values.

Differs from the paper: (1) the margin is -3 |gamma| if fewer than 0.001 of the values are negative, as in the authors'
code, and min(beta, 0) if gamma is 0, where that code divides by zero. (2) For a ResNet teacher the margin is that of the
last block's second BatchNorm, although the tap is its output plus the shortcut, as in the authors' code. (3) Maps of
different sizes are average-pooled; the authors' networks have equal sizes.
"""

import math

import torch
from torch import Tensor, nn

from kdexp.distill.base import DistillMethod, full_precision, same_size
from kdexp.models import Output, Tap


@torch.no_grad()
def od_margin(gamma: Tensor, beta: Tensor) -> Tensor:
    """E[x | x < 0] for x ~ N(beta, gamma^2), per channel: (channels,), from the affine parameters of a BatchNorm.
    Never positive."""
    if gamma.is_meta:  # only the shape counts; torch would import its compiler for the values, which takes 1.5 s
        return torch.empty_like(gamma)
    exact = torch.float32 if gamma.device.type == "mps" else torch.float64
    deviation, mean = gamma.to(exact).abs(), beta.to(exact)
    ratio = mean / deviation.clamp(min=1e-30)
    negative = torch.special.ndtr(-ratio)  # the share of negative values
    density = torch.exp(-ratio.square() / 2) / math.sqrt(2 * math.pi)
    margin = torch.where(negative > 0.001, mean - deviation * density / negative.clamp(min=0.001), -3 * deviation)
    return torch.where(deviation > 0, margin, mean.clamp(max=0)).to(gamma.dtype)


@full_precision
def partial_l2(source: Tensor, target: Tensor, margin: Tensor) -> Tensor:
    """Summed squared distance to max(target, margin), ignoring values where both are negative and the source is below
    the target."""
    target = torch.maximum(target, margin)
    counts = (source > target) | (target > 0)
    return ((source - target).square() * counts).sum()


def connector(student: Tap, teacher: Tap) -> nn.Sequential:
    """1x1 convolution, weights N(0, sqrt(2 / C_t)), and BatchNorm; also used between equal widths."""
    conv = nn.Conv2d(student.channels, teacher.channels, 1, bias=False)
    nn.init.normal_(conv.weight, 0.0, math.sqrt(2 / teacher.channels))
    return nn.Sequential(conv, nn.BatchNorm2d(teacher.channels))


class OD(DistillMethod):
    """Uses the stages before their ReLU, weighted 1/4, 1/2 and 1. If maps differ in size, the larger is average-pooled
    to the smaller.

    teacher_mode: "batch_stats" as the authors run it (their Table 8), or "eval". Raises ValueError for anything else.
    """

    reads = ("stage*_pre",)
    pools = True

    def __init__(self, student_taps: dict[str, Tap], teacher_taps: dict[str, Tap], teacher_mode: str = "batch_stats"):
        super().__init__(student_taps, teacher_taps)
        if teacher_mode not in ("eval", "batch_stats"):
            raise ValueError(f"teacher_mode={teacher_mode}: must be eval or batch_stats")
        self.teacher_mode = teacher_mode
        self.connectors = nn.ModuleList(connector(student, teacher) for student, teacher in self.taps)
        for number, ((_, name), (_, tap)) in enumerate(zip(self.pairs, self.taps)):
            if tap.norm is None:
                raise ValueError(f"the teacher's {name} has no BatchNorm, which OD computes its margin from")
            margin = od_margin(tap.norm.weight, tap.norm.bias).view(1, -1, 1, 1)
            self.register_buffer(f"margin{number}", margin, persistent=False)

    def forward(self, student: Output, teacher: Output) -> Tensor:
        total = 0.0
        for number, (ours, theirs) in enumerate(self.maps(student, teacher)):
            source, target = same_size(self.connectors[number](ours), theirs)
            share = 2 ** (len(self.pairs) - 1 - number)  # 4, 2, 1
            total = total + partial_l2(source, target, getattr(self, f"margin{number}")) / share
        return total / len(student.logits)
