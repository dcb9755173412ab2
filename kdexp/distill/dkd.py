"""DKD: Zhao et al. 2022, "Decoupled Knowledge Distillation", equation 7.

    L = alpha * T^2 KL(b_t || b_s) + beta * T^2 KL(o_t || o_s)

b: probabilities of the target class and of all others together, o: probabilities among the others, softened by T.

Follows mdistiller (mdistiller/distillers/DKD.py), the authors' code: alpha 1, beta 8, T 4, and the loss warms up to its
weight over the first 20 of 240 epochs. Differs from it: (1) both terms are computed from logits; mdistiller's first one
is NaN or infinite in float32 for logits about 90 T apart. beta per pair: see the README of this folder.
"""

import torch
from torch import Tensor

from kdexp.distill.base import Batch, DistillMethod, full_precision, warmed_up
from kdexp.distill.kd import kd_loss
from kdexp.distill.ls import standardise
from kdexp.models import Output, Tap


def decoupled(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Split logits (batch, classes) into those of "the target" and "any other", (batch, 2), and those of the others,
    (batch, classes - 1)."""
    position = torch.arange(logits.shape[1] - 1, device=logits.device).expand(len(logits), -1)
    others = logits.gather(1, position + (position >= labels[:, None]))
    return torch.cat([logits.gather(1, labels[:, None]), others.logsumexp(1, keepdim=True)], 1), others


@full_precision
def dkd_loss(
    student_logits: Tensor, teacher_logits: Tensor, labels: Tensor, alpha: float, beta: float, temperature: float
) -> Tensor:
    """L of logits (batch, classes) and labels (batch,); mean over the batch."""
    s_target, s_others = decoupled(student_logits / temperature, labels)
    t_target, t_others = decoupled(teacher_logits / temperature, labels)
    return temperature**2 * (alpha * kd_loss(s_target, t_target, 1) + beta * kd_loss(s_others, t_others, 1))


class DKD(DistillMethod):
    """Uses the logits and the labels. warmup: the fraction of the epochs over which the loss rises from 0 to its weight.
    standardise: standardize the logits first, as LS does."""

    hard_labels = True  # for the target class

    def __init__(
        self,
        student_taps: dict[str, Tap],
        teacher_taps: dict[str, Tap],
        alpha: float = 1.0,
        beta: float = 8.0,
        temperature: float = 4.0,
        warmup: float = 20 / 240,
        standardise: bool = False,
    ):
        super().__init__(student_taps, teacher_taps)
        if not temperature > 0:
            raise ValueError(f"temperature={temperature}: must be greater than 0")
        self.alpha, self.beta, self.temperature = alpha, beta, temperature
        self.warmup, self.standardise = warmup, standardise

    def loss(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        logits = student.logits, teacher.logits
        s, t = map(standardise, logits) if self.standardise else logits
        loss = dkd_loss(s, t, batch.labels, self.alpha, self.beta, self.temperature)
        return warmed_up(batch.progress, self.warmup) * loss
