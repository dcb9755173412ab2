"""PKT: Passalis & Tefas 2018, "Learning Deep Representations with Probabilistic Knowledge Transfer".

    L = mean over i, j of t_ij log(t_ij / s_ij),    p_ij = k(e_i, e_j) / sum_j k(e_i, e_j),    k = (cosine + 1) / 2

e: embeddings; 1e-7 is added to both sides of the quotient.

Follows RepDistiller (distiller_zoo/PKT.py; mdistiller's is the same), with its weight 30000 on the mean over all pairs,
i = j included. Differs from it: (1) an embedding with a norm below 1e-6 has cosine 0 and no gradient; RepDistiller's
gradient is NaN.
"""

import torch
from torch import Tensor

from kdexp.distill.base import DistillMethod, full_precision
from kdexp.models import Output

EPS = 1e-7


def neighbors(embedding: Tensor) -> Tensor:
    """The distributions p_i of embeddings (batch, channels), one per row: (batch, batch)."""
    norm = embedding.norm(dim=1, keepdim=True)
    unit = torch.where(norm > 1e-6, embedding / (norm + EPS), 0.0)
    kernel = (unit @ unit.T + 1) / 2
    return kernel / kernel.sum(1, keepdim=True)


@full_precision
def pkt_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean over all pairs of the KL terms of two embeddings (batch, channels); channels may differ."""
    s, t = neighbors(student), neighbors(teacher)
    return (t * ((t + EPS) / (s + EPS)).log()).mean()


class PKT(DistillMethod):
    """Uses the pooled embeddings; no connector."""

    reads = ("embedding",)

    def forward(self, student: Output, teacher: Output) -> Tensor:
        return pkt_loss(student.features["embedding"], teacher.features["embedding"])
