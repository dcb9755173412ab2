"""RKD: Park et al. 2019, "Relational Knowledge Distillation", equations 3 to 8.

    L_D = mean over i, j of huber(d_ij^s - d_ij^t),         d_ij = |e_i - e_j| / mean of these over i != j
    L_A = mean over i, j, k of huber(c_ijk^s - c_ijk^t),    c_ijk = <v_ij, v_ik>, v_ij = (e_j - e_i) / |e_j - e_i|

e: embeddings, huber: quadratic below 1.

Differs from the paper: (1) weights 25 and 50 (RepDistiller); the authors' code for CIFAR was never released.
(2) Pairs of embeddings closer than 1e-6 have angle zero and no gradient; the authors' code has gradients of 1e9 there.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdexp.distill.base import DistillMethod, full_precision, unit_rows
from kdexp.models import Output, Tap


def differences(embedding: Tensor) -> Tensor:
    """e_j - e_i for embeddings (batch, channels): (batch, batch, channels)."""
    return embedding.unsqueeze(0) - embedding.unsqueeze(1)


def distances(embedding: Tensor) -> Tensor:
    """Distances of all pairs, divided by their mean over pairs with i != j: (batch, batch)."""
    batch = len(embedding)
    other = ~torch.eye(batch, dtype=torch.bool, device=embedding.device)
    distance = differences(embedding).square().sum(2).clamp(min=1e-12).sqrt() * other
    return distance / (distance.sum() / max(batch * (batch - 1), 1)).clamp(min=1e-12)


def angles(embedding: Tensor) -> Tensor:
    """Cosine of the angle at e_i for all triples i, j, k: (batch, batch, batch)."""
    unit = unit_rows(differences(embedding))
    return unit @ unit.transpose(1, 2)


@full_precision
def rkd_distance_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """L_D of two embeddings (batch, channels); channels may differ."""
    return F.smooth_l1_loss(distances(student), distances(teacher))


@full_precision
def rkd_angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """L_A of two embeddings (batch, channels); channels may differ."""
    return F.smooth_l1_loss(angles(student), angles(teacher))


class RKD(DistillMethod):
    """distance_weight * L_D + angle_weight * L_A on the pooled embeddings."""

    reads = ("embedding",)

    def __init__(
        self,
        student_taps: dict[str, Tap],
        teacher_taps: dict[str, Tap],
        distance_weight: float = 25.0,
        angle_weight: float = 50.0,
    ):
        super().__init__(student_taps, teacher_taps)
        self.distance_weight, self.angle_weight = distance_weight, angle_weight

    def forward(self, student: Output, teacher: Output) -> Tensor:
        s, t = student.features["embedding"], teacher.features["embedding"]
        return self.distance_weight * rkd_distance_loss(s, t) + self.angle_weight * rkd_angle_loss(s, t)
