"""KDSVD: Lee, Kim & Song 2018, "Self-supervised Knowledge Distillation Using Singular Value Decomposition".

    L = 1/batch * sum over neighboring stages g of sum over (b, i, j) of (K_s - K_t)^2,
        K_ij = exp(-(v_i^g - v_j^(g-1))^2 / 8)

v^g: the first right singular vector of stage g's map as a matrix (H*W, channels), with unit norm. For the student, it is
the one of the first four that is most similar to the teacher's, with matching sign.

Follows RepDistiller (distiller_zoo/KDSVD.py), weight 1 (mdistiller's; mdistiller decomposes other matrices and has a
different loss). Differs from it: (1) the sign of the teacher's vector makes its sum nonnegative; in RepDistiller the
sign, and thus the loss, depends on the linear algebra library. (2) The gradient is that of the chosen vector alone, by
first-order perturbation; in RepDistiller a sample's whole gradient is NaN as soon as any two singular values are equal,
as with two dead channels. (3) Vectors with singular value 0, which are arbitrary, are never chosen; if the chosen one is
not unique, there is no gradient along the directions it shares.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from kdexp.distill.base import DistillMethod, check_widths, full_precision
from kdexp.models import Output, Tap

ALIKE = 4  # candidate vectors of the student


@torch.no_grad()
def decomposed(x: Tensor) -> tuple[Tensor, Tensor]:
    """Squared singular values (batch, channels) of matrices (batch, positions, channels), the largest first, and the right
    singular vectors as rows (batch, channels, channels). From x^T x, in float64 because squaring costs precision."""
    exact = x.to(torch.float32 if x.device.type == "mps" else torch.float64)
    squares, vectors = torch.linalg.eigh(exact.mT @ exact)
    return squares.flip(1).clamp(min=0).to(x.dtype), vectors.mT.flip(1).to(x.dtype)


def first_vector(x: Tensor) -> Tensor:
    """First right singular vector of matrices (batch, positions, channels), with a nonnegative sum; zero if the matrix
    is: (batch, channels). No gradient."""
    squares, vectors = decomposed(x)
    first = vectors[:, 0] * (squares[:, :1] > 0)
    return torch.where(first.sum(1, keepdim=True) < 0, -first, first)


def vector_like(x: Tensor, target: Tensor) -> Tensor:
    """The one of the first right singular vectors of matrices (batch, positions, channels) that is most similar to target
    (batch, channels), with matching sign: (batch, channels).

    When A = x^T x changes by dA, a singular vector v of x with singular value l changes by dv = (l^2 - A)^+ dA v.
    """
    squares, vectors = decomposed(x)
    cosines = (vectors[:, :ALIKE] @ target[:, :, None]).squeeze(2)
    used = squares[:, :ALIKE] > 1e-10 * squares[:, :1]  # the others span directions that the map does not use
    cosines = cosines * used
    which = cosines.abs().argmax(1, keepdim=True)
    v = vectors.take_along_dim(which[:, :, None], 1).squeeze(1) * cosines.take_along_dim(which, 1).sign()
    gaps = squares.take_along_dim(which, 1) - squares
    inverse = torch.where(gaps.abs() > 1e-6 * squares[:, :1], 1 / gaps, 0.0)
    moved = x.mT @ (x @ v[:, :, None])
    moved = moved - moved.detach()  # dA v: zero, with a gradient
    return v + (vectors.mT @ (inverse[:, :, None] * (vectors @ moved))).squeeze(2)


@full_precision
def svd_loss(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
    """L of two lists of maps (batch, channels, H, W), in the network's order; sizes may differ. Raises ValueError if the
    widths differ."""
    check_widths(*([x.shape[1] for x in maps] for maps in (student_maps, teacher_maps)))
    total, before = student_maps[0].new_zeros(()), None
    for maps in zip(student_maps, teacher_maps):
        s, t = (x.flatten(2).transpose(1, 2) for x in maps)
        target = first_vector(t.detach())
        pair = vector_like(s, target), target
        if before is not None:
            s_kernel, t_kernel = (
                torch.exp(-(v[:, :, None] - earlier[:, None]).square() / 8) for v, earlier in zip(pair, before)
            )
            total = total + (s_kernel - t_kernel).square().sum()
        before = pair
    return total / len(student_maps[0])


class KDSVD(DistillMethod):
    """Uses neighboring stages. Raises ValueError if the widths differ."""

    reads = ("stage*",)

    def __init__(self, student_taps: dict[str, Tap], teacher_taps: dict[str, Tap]):
        super().__init__(student_taps, teacher_taps)
        check_widths(*([tap.channels for tap in taps] for taps in zip(*self.taps)))

    def forward(self, student: Output, teacher: Output) -> Tensor:
        return svd_loss(*zip(*self.maps(student, teacher)))
