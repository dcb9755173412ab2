"""LS: Sun et al. 2024, "Logit Standardization in Knowledge Distillation", algorithm 1.

    L = T^2 * KL(softmax(z_t / T) || softmax(z_s / T)),    z = (logits - mean) / standard deviation, per sample

`distill=ls` is KD (kd.py) with `standardise: true`; other methods on logits take the same parameter, for instance
`distill=dkd distill.standardise=true`.

Follows the authors' code (sunshangquan/logit-standardization-KD), with its weight 9 and base temperature 2. Differs from
it: (1) logits that are all equal have no gradient; the authors' code has one of order 1e6. With two classes only the
order of the logits is left, and hardly any gradient.
"""

import torch
from torch import Tensor

from kdexp.distill.base import full_precision


@full_precision
def standardise(logits: Tensor) -> Tensor:
    """z of logits (batch, classes): each row has mean 0 and sample standard deviation (n - 1) 1."""
    centred = logits - logits.mean(1, keepdim=True)
    deviation = logits.std(1, keepdim=True)
    return torch.where(deviation > 1e-6, centred / (deviation + 1e-7), 0.0)
