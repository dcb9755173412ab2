"""AB: Heo et al. 2019, "Knowledge Transfer via Distillation of Activation Boundaries Formed by Hidden Neurons".

    L = 3/1000 * 1/batch * sum_g 2^(g - 3) * sum over (b, c, h, w) of
            (r_g(s_g) + m)^2  where t_g <= 0 and r_g(s_g) > -m
            (r_g(s_g) - m)^2  where t_g > 0 and r_g(s_g) <= m

s_g, t_g: stage g = 1, 2, 3 before its ReLU, m: the margin, r_g: a connector.

L is a pretraining loss: the student learns where the teacher's neurons are active. After that, the student trains on the
labels alone.

Follows RepDistiller (distiller_zoo/AB.py, helper/pretrain.py): 30 epochs; the connector is a convolution and a BatchNorm,
or nothing between maps of the same shape. The weight is 0 because RepDistiller adds nothing to the training after that
(its `-b 1` multiplies 0); `distill.weight=1` keeps L in addition to the cross entropy. Differs from RepDistiller: (1) if
the student's map is smaller, but not half as large, the teacher's is pooled; RepDistiller fails.
"""

from torch import Tensor, nn

from kdexp.distill.base import DistillMethod, Pretraining, full_precision, same_size
from kdexp.distill.fn import Regressor
from kdexp.models import Output, Tap


@full_precision
def ab_loss(source: Tensor, target: Tensor, margin: float) -> Tensor:
    """Summed squared distance from source to the margin on the target's side of zero, for two maps of the same shape;
    zero for values beyond the margin."""
    quiet = (source + margin).square() * ((source > -margin) & (target <= 0))
    active = (source - margin).square() * ((source <= margin) & (target > 0))
    return (quiet + active).sum()


def connector(student: Tap, teacher: Tap) -> nn.Module:
    """From the student's channels and size to the teacher's."""
    if (student.channels, student.size) == (teacher.channels, teacher.size):
        return nn.Identity()
    return Regressor(student, teacher, relu=False)


class AB(DistillMethod):
    """Uses the stages before their ReLU. margin: m. pretrain_epochs, pretrain_lr: epochs and rate of the pretraining."""

    reads = ("stage*_pre",)

    def __init__(
        self,
        student_taps: dict[str, Tap],
        teacher_taps: dict[str, Tap],
        margin: float = 1.0,
        pretrain_epochs: int = 30,
        pretrain_lr: float = 0.05,
    ):
        super().__init__(student_taps, teacher_taps)
        self.margin, self.pretrain_epochs, self.pretrain_lr = margin, pretrain_epochs, pretrain_lr
        self.connectors = nn.ModuleList(connector(student, teacher) for student, teacher in self.taps)

    def pretraining(self) -> Pretraining:
        return Pretraining(self.pretrain_epochs, self.pretrain_lr, self)

    def forward(self, student: Output, teacher: Output) -> Tensor:
        total = 0.0
        for number, (ours, theirs) in enumerate(self.maps(student, teacher), start=1):
            source, target = same_size(self.connectors[number - 1](ours), theirs)
            total = total + 2 ** (number - len(self.pairs)) * ab_loss(source, target, self.margin)
        return 3 / 1000 * total / len(student.logits)
