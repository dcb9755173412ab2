"""FN: Romero et al. 2015, "FitNets: Hints for Thin Deep Nets", equation 3.

    L = mean over (batch, C_t, H, W) of (r(s) - t)^2,    s, t: stage 2 of student and teacher, r: a regressor

Differs from the paper: (1) one stage by default: regressor and student train together with the cross entropy, as in
RepDistiller; the paper trains the student up to the hint first, then all of it with KD. (2) The mean of squares, not
half their sum. (3) Weight 100 (RepDistiller); the paper's pretraining uses the hint alone. (4) The regressor is a
convolution, a BatchNorm and, only if the hint tap is never negative, a ReLU (`relu=auto`): half of a WRN's raw hints are
negative and a ReLU could never fit them. `relu=true` uses a ReLU for every pair, as RepDistiller does.

The paper's two stages are `distill.stages=2`: first the hint alone, then the labels without it. The paper also uses KD in
the second stage (`distill.kd_weight=0.9 distill.ce_weight=0.1`).
"""

import torch.nn.functional as F
from torch import Tensor, nn

from kdexp.distill.base import Batch, DistillMethod, Pretraining, full_precision, same_size
from kdexp.models import Output, Tap


@full_precision
def hint_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error of two tensors of the same shape."""
    return F.mse_loss(student, teacher)


def regressor_conv(student: Tap, teacher: Tap) -> nn.Module:
    """The convolution from the student's channels and size to the teacher's.

    Equal sizes: 1x1. Student twice as large: 3x3, stride 2. Student half as large: 4x4 transposed, stride 2. Student
    otherwise larger: valid, kernel 1 + H_s - H_t. Student otherwise smaller: 1x1, and the teacher's map is pooled to
    the student's size.
    """
    s, t = student.size, teacher.size
    if s == 2 * t:
        return nn.Conv2d(student.channels, teacher.channels, 3, stride=2, padding=1)
    if 2 * s == t:
        return nn.ConvTranspose2d(student.channels, teacher.channels, 4, stride=2, padding=1)
    return nn.Conv2d(student.channels, teacher.channels, 1 + max(s - t, 0))


class Regressor(nn.Module):
    """Convolution (with bias), BatchNorm and, if `relu`, a ReLU."""

    def __init__(self, student: Tap, teacher: Tap, relu: bool):
        super().__init__()
        self.conv = regressor_conv(student, teacher)
        self.bn = nn.BatchNorm2d(teacher.channels)
        self.relu = relu

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return F.relu(x) if self.relu else x


class FN(DistillMethod):
    """Hint at stage 2. relu: "auto", True or False, see deviation 4. stages: 1, or 2 as in the paper. pretrain_epochs,
    pretrain_lr: epochs and rate of the first of two stages.

    If the maps differ in size, the regressor's convolution resizes the student's (`regressor_conv`).
    """

    reads = ("stage2",)

    def __init__(
        self,
        student_taps: dict[str, Tap],
        teacher_taps: dict[str, Tap],
        relu: bool | str = "auto",
        stages: int = 1,
        pretrain_epochs: int = 30,
        pretrain_lr: float = 0.05,
    ):
        super().__init__(student_taps, teacher_taps)
        if stages not in (1, 2):
            raise ValueError(f"stages={stages}: must be 1 or 2")
        self.stages, self.pretrain_epochs, self.pretrain_lr = stages, pretrain_epochs, pretrain_lr
        if relu not in ("auto", True, False):
            raise ValueError(f"relu={relu}: must be auto, true or false")
        ((student, teacher),) = self.taps
        self.regressor = Regressor(student, teacher, relu=not teacher.signed if relu == "auto" else bool(relu))
        if student.size != teacher.size:
            self.remarks.append(
                f"stage2: the regressor takes the student's {student.size}x{student.size} map to the teacher's "
                f"{teacher.size}x{teacher.size}"
            )

    def forward(self, student: Output, teacher: Output) -> Tensor:
        return hint_loss(*same_size(self.regressor(student.features["stage2"]), teacher.features["stage2"]))

    def loss(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        return self(student, teacher) if self.stages == 1 else student.logits.new_zeros(())

    def pretraining(self) -> Pretraining | None:
        return Pretraining(self.pretrain_epochs, self.pretrain_lr, self) if self.stages == 2 else None
