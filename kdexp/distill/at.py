"""AT: Zagoruyko & Komodakis 2017, "Paying More Attention to Attention", equation 2, activation-based with p = 2.

    L = mean over (batch, H*W) of (A_s / |A_s| - A_t / |A_t|)^2,    A = mean over channels of f^2, flattened

Differs from the paper: (1) weight 1000 on the sum over stages, as in the authors' released code, RepDistiller and
mdistiller; equation 2 has beta/2 (500). (2) The mean of squares, as in that code; the equation has an unsquared norm.
"""

import torch.nn.functional as F
from torch import Tensor

from kdexp.distill.base import DistillMethod, full_precision, same_size
from kdexp.models import Output


def attention(feature: Tensor) -> Tensor:
    """Attention map of a feature map (batch, channels, H, W): (batch, H*W), of unit norm (zero where the feature is
    zero)."""
    return F.normalize(feature.square().mean(1).flatten(1))


@full_precision
def at_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the attention maps of two feature maps; channels may differ, the larger map is
    pooled."""
    student, teacher = same_size(student, teacher)
    return F.mse_loss(attention(student), attention(teacher))


class AT(DistillMethod):
    """Sum over the stages. If maps differ in size, the larger is average-pooled to the smaller."""

    reads = ("stage*",)
    pools = True

    def forward(self, student: Output, teacher: Output) -> Tensor:
        return sum(at_loss(s, t) for s, t in self.maps(student, teacher))
