"""KD: Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network", section 2.

    L = T^2 * mean_b sum_k p_t log(p_t / p_s),    p = softmax(logits / T)

Differs from the paper: (1) the weights 0.9 and 0.1 and T = 4 come from the attention-transfer and RepDistiller code; the
paper, which has no CIFAR experiment, asks only for T^2 and a small weight on the hard labels.
"""

import torch.nn.functional as F
from torch import Tensor

from kdexp.distill.base import DistillMethod, full_precision
from kdexp.distill.ls import standardise
from kdexp.models import Output, Tap


@full_precision
def kd_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """T^2 * KL(teacher || student) of logits (batch, classes) softened by `temperature`; mean over the batch."""
    student = F.log_softmax(student_logits / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits / temperature, dim=1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


class KD(DistillMethod):
    """Uses the softened logits; no connector, no taps. standardise: standardize the logits first, see ls.py."""

    def __init__(
        self,
        student_taps: dict[str, Tap],
        teacher_taps: dict[str, Tap],
        temperature: float = 4.0,
        standardise: bool = False,
    ):
        super().__init__(student_taps, teacher_taps)
        if not temperature > 0:
            raise ValueError(f"temperature={temperature}: must be greater than 0")
        self.temperature, self.standardise = temperature, standardise

    def forward(self, student: Output, teacher: Output) -> Tensor:
        logits = student.logits, teacher.logits
        return kd_loss(*(map(standardise, logits) if self.standardise else logits), self.temperature)
