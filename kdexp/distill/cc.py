"""CC: Peng et al. 2019, "Correlation Congruence for Knowledge Distillation".

    L = 1/(batch - 1) * sum_b <d_b, d_b+1>,    d_b = |W_s e_s - W_t e_t| of sample b

e: embeddings, W: a linear layer to `dim` channels for each network; both are trained.

Follows RepDistiller (distiller_zoo/CC.py), which has the code from the authors. Differs from the paper: (1) the paper
compares the correlation matrices of a batch; the code multiplies the differences of neighbors in the batch. Differs from
the code: (2) a batch of one has no neighbors and a loss of 0; the code gives NaN.
"""

from torch import Tensor, nn

from kdexp.distill.base import DistillMethod, full_precision
from kdexp.models import Output, Tap


@full_precision
def cc_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean product of neighboring differences of two embeddings (batch, dim)."""
    difference = (student - teacher).abs()
    return (difference[:-1] * difference[1:]).sum() / max(len(difference) - 1, 1)


class CC(DistillMethod):
    """Uses the pooled embeddings, each after a linear layer. dim: channels after the linear layers."""

    reads = ("embedding",)

    def __init__(self, student_taps: dict[str, Tap], teacher_taps: dict[str, Tap], dim: int = 128):
        super().__init__(student_taps, teacher_taps)
        self.embed_student = nn.Linear(student_taps["embedding"].channels, dim)
        self.embed_teacher = nn.Linear(teacher_taps["embedding"].channels, dim)

    def forward(self, student: Output, teacher: Output) -> Tensor:
        s, t = student.features["embedding"], teacher.features["embedding"]
        return cc_loss(self.embed_student(s), self.embed_teacher(t))
