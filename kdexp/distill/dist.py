"""DIST: Huang et al. 2022, "Knowledge Distillation from A Stronger Teacher".

    L = T^2 [ beta * mean over samples of (1 - r(row_s, row_t)) + gamma * mean over classes of (1 - r(column_s, column_t)) ]

rows and columns: of the probabilities (batch, classes) softened by T, r: Pearson's correlation.

Follows the authors' code (hunto/image_classification_sota, lib/models/losses/dist_kd.py), with the weights of its
CIFAR-100 experiments (dist_cifar.yaml): beta and gamma 1, T 4, weight 2. Differs from it: (1) r is 0, with no gradient,
if the student's row or column is constant (centered norm below 1e-6); the authors' code has gradients of order 1e6.
"""

import torch
from torch import Tensor

from kdexp.distill.base import DistillMethod, full_precision
from kdexp.models import Output, Tap


def correlation(student: Tensor, teacher: Tensor) -> Tensor:
    """Pearson's correlation along the last dimension; 1e-8 is added to the product of the norms."""
    s, t = (x - x.mean(-1, keepdim=True) for x in (student, teacher))
    norm = s.norm(dim=-1)
    return torch.where(norm > 1e-6, (s * t).sum(-1) / (norm * t.norm(dim=-1) + 1e-8), 0.0)


@full_precision
def dist_loss(student_logits: Tensor, teacher_logits: Tensor, beta: float, gamma: float, temperature: float) -> Tensor:
    """L of logits (batch, classes)."""
    s, t = ((logits / temperature).softmax(1) for logits in (student_logits, teacher_logits))
    between_classes, within_classes = 1 - correlation(s, t).mean(), 1 - correlation(s.T, t.T).mean()
    return temperature**2 * (beta * between_classes + gamma * within_classes)


class DIST(DistillMethod):
    """Uses the logits."""

    def __init__(
        self,
        student_taps: dict[str, Tap],
        teacher_taps: dict[str, Tap],
        beta: float = 1.0,
        gamma: float = 1.0,
        temperature: float = 4.0,
    ):
        super().__init__(student_taps, teacher_taps)
        if not temperature > 0:
            raise ValueError(f"temperature={temperature}: must be greater than 0")
        self.beta, self.gamma, self.temperature = beta, gamma, temperature

    def forward(self, student: Output, teacher: Output) -> Tensor:
        return dist_loss(student.logits, teacher.logits, self.beta, self.gamma, self.temperature)
