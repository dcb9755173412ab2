"""SP: Tung & Mori 2019, "Similarity-Preserving Knowledge Distillation", equations 1 to 4.

    L = |G_s - G_t|_F^2 / batch^2,    G = F F^T, each row divided by its norm,    F: the last stage, (batch, C*H*W)

Differs from the paper: (1) the last stage only, as in RepDistiller, whose code the author confirmed; equation 4 sums
over layers. (2) Rows of G with a norm below 1e-6 (a sample of zeros) are zero and have no gradient; RepDistiller has
gradients of 5e10 there.
"""

import torch.nn.functional as F
from torch import Tensor

from kdexp.distill.base import DistillMethod, full_precision, unit_rows
from kdexp.models import Output


def similarities(feature: Tensor) -> Tensor:
    """Row-normalized similarities between the samples of a feature (batch, ...): (batch, batch)."""
    flat = feature.flatten(1)
    return unit_rows(flat @ flat.T)


@full_precision
def sp_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the similarities of two features (batch, ...); all other dimensions may differ."""
    return F.mse_loss(similarities(student), similarities(teacher))


class SP(DistillMethod):
    """Similarities between samples at the last stage; works for maps of any size."""

    reads = ("last_stage",)

    def forward(self, student: Output, teacher: Output) -> Tensor:
        ((s, t),) = self.maps(student, teacher)
        return sp_loss(s, t)
