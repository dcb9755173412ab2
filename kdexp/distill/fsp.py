"""FSP: Yim et al. 2017, "A Gift from Knowledge Distillation: Fast Optimization, Network Minimization and Transfer
Learning", equations 1 and 2.

    L = sum over neighboring maps of mean over (b, i, j) of (G_s - G_t)^2,    G_ij = 1/(H W) * sum_hw F_i F'_j

F, F': a map and the next one, among stem and stages; the larger of the two is average-pooled.

L is a pretraining loss; after that, the student trains on the labels alone. Both networks need the same widths.

Follows RepDistiller (distiller_zoo/FSP.py, helper/pretrain.py): 30 epochs. The weight is 0 because RepDistiller adds
nothing to the training after that (its `-b 50` multiplies 0); `distill.weight=50` keeps L in addition to the cross
entropy. Differs from the paper: (1) one matrix per pair of neighbors among stem and stages; the paper has several inside
the stages. (2) The mean of squares; equation 2 sums.
"""

from collections.abc import Sequence

from torch import Tensor

from kdexp.distill.base import DistillMethod, Pretraining, check_widths, full_precision, same_size
from kdexp.models import Output, Tap


def flow(maps: Sequence[Tensor]) -> list[Tensor]:
    """G for each pair of neighboring maps (batch, C, H, W): (batch, C of the second, C of the first)."""
    matrices = []
    for first, second in zip(maps, maps[1:]):
        first, second = (x.flatten(2) for x in same_size(first, second))
        matrices.append(second @ first.transpose(1, 2) / first.shape[2])
    return matrices


@full_precision
def fsp_loss(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
    """L of two lists of maps (batch, channels, H, W), in the network's order. Raises ValueError if the widths differ."""
    check_widths(*([x.shape[1] for x in maps] for maps in (student_maps, teacher_maps)))
    return sum((s - t).square().mean() for s, t in zip(flow(student_maps), flow(teacher_maps)))


class FSP(DistillMethod):
    """Uses stem and stages. pretrain_epochs, pretrain_lr: epochs and rate of the pretraining. Raises ValueError if the
    widths differ."""

    reads = ("stem", "stage*")

    def __init__(
        self,
        student_taps: dict[str, Tap],
        teacher_taps: dict[str, Tap],
        pretrain_epochs: int = 30,
        pretrain_lr: float = 0.05,
    ):
        super().__init__(student_taps, teacher_taps)
        check_widths(*([tap.channels for tap in taps] for taps in zip(*self.taps)))
        self.pretrain_epochs, self.pretrain_lr = pretrain_epochs, pretrain_lr

    def pretraining(self) -> Pretraining:
        return Pretraining(self.pretrain_epochs, self.pretrain_lr, self)

    def forward(self, student: Output, teacher: Output) -> Tensor:
        return fsp_loss(*zip(*self.maps(student, teacher)))
