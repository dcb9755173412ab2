"""Controls: KD in which the teacher's output carries little or no knowledge of the image. Whatever a control gains does not
need that knowledge.

    uniform     L = T^2 KL(1/K || p_s): label smoothing in place of KD (Yuan et al. 2020, "Revisiting Knowledge
                Distillation via Label Smoothing Regularization", equation 5)
    permuted    L = T^2 KL(p_t' || p_s): the teacher's class keeps its probability, the other probabilities are
                permuted (Furlanello et al. 2018, "Born-Again Neural Networks", DKPP)
    shuffled    L = T^2 KL(p_t of another image of the batch || p_s)

Temperature and weights are KD's, so that each control differs from KD in the teacher's output only.
"""

import torch
from torch import Tensor

from kdexp.distill.kd import KD, kd_loss
from kdexp.models import Output


def permuted(logits: Tensor) -> Tensor:
    """Logits (batch, classes) with all but the largest of each row in random order."""
    largest = logits.argmax(1, keepdim=True)
    keys = torch.rand(logits.shape, device=logits.device).scatter_(1, largest, 2.0)
    others = logits.gather(1, keys.argsort(1)[:, :-1])  # in random order, without the largest
    position = torch.arange(logits.shape[1], device=logits.device).expand_as(logits)
    others = torch.cat([others, others[:, :1]], 1).gather(1, (position - (position > largest).long()).clamp(min=0))
    return torch.where(position == largest, logits, others)


def shuffled(logits: Tensor) -> Tensor:
    """Gives each image another image's row: rolls the batch by a random number of places. A batch of one is unchanged."""
    count = len(logits)
    places = 1 + int(torch.randint(max(count - 1, 1), ())) if count > 1 else 0
    return logits.roll(places, 0)


class Uniform(KD):
    """KD from a teacher that knows nothing."""

    def forward(self, student: Output, teacher: Output) -> Tensor:
        return kd_loss(student.logits, torch.zeros_like(student.logits), self.temperature)


class Permuted(KD):
    """KD from a teacher whose other probabilities are those of other classes."""

    def forward(self, student: Output, teacher: Output) -> Tensor:
        return super().forward(student, teacher._replace(logits=permuted(teacher.logits)))


class Shuffled(KD):
    """KD from what the teacher says about another image."""

    def forward(self, student: Output, teacher: Output) -> Tensor:
        return super().forward(student, teacher._replace(logits=shuffled(teacher.logits)))
