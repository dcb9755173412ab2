"""NST: Huang & Wang 2017, "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer", equations 4 to 8.

    L = mean_b [ mean_ii' k(t_i, t_i') + mean_jj' k(s_j, s_j') - 2 mean_ij k(t_i, s_j) ],    k(x, y) = (x . y)^2

where t_i, s_j are the channel maps of a sample, flattened and divided by their norms: the squared MMD of the two
sets of maps under the polynomial kernel of degree 2 without a constant.

Differs from the paper: (1) three stages; the paper has one layer. (2) Weight 50 on L; equation 8 has 50/2.
Both as in RepDistiller. (3) The teacher in eval mode; the authors' ImageNet code uses batch statistics.
"""

import torch.nn.functional as F
from torch import Tensor

from kdexp.distill.base import DistillMethod, full_precision, same_size
from kdexp.models import Output


def mean_kernel(x: Tensor, y: Tensor) -> Tensor:
    """Mean over batch and pairs of channels of (x_i . y_j)^2, for x (batch, C_x, H*W), y (batch, C_y, H*W): one
    matrix product."""
    return (x @ y.transpose(1, 2)).square().mean()


@full_precision
def nst_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """MMD^2 between the channel maps of two feature maps (batch, channels, H, W); channels may differ, the larger
    map is pooled."""
    s, t = (F.normalize(x.flatten(2), dim=2) for x in same_size(student, teacher))  # (batch, C, H*W)
    return mean_kernel(t, t) + mean_kernel(s, s) - 2 * mean_kernel(t, s)


class NST(DistillMethod):
    """Sum over the stages. If maps differ in size, the larger is average-pooled to the smaller."""

    reads = ("stage*",)
    pools = True

    def forward(self, student: Output, teacher: Output) -> Tensor:
        return sum(nst_loss(s, t) for s, t in self.maps(student, teacher))
