"""A multilayer perceptron with dropout and a limit on incoming weights: Hinton et al. 2012, "Improving neural networks by
preventing co-adaptation of feature detectors", arXiv:1207.0580, section A.1; the networks of Hinton, Vinyals & Dean 2015,
"Distilling the Knowledge in a Neural Network", arXiv:1503.02531, section 3.

Differs from the paper of 2012: (1) torch's default initialization of linear layers; there N(0, 0.01). (2) The limit is on the
norm; there on its square (15, so max_norm is 3.873).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kdexp.models import Output, Tap


class MLP(nn.Module):
    """Fully connected layers with ReLU.

    hidden: units of each hidden layer. num_classes: size of the logits. image_size, in_channels: of the images.
    input_dropout, dropout: the probability that an input, or a hidden unit, is set to zero in training. max_norm: the
    largest norm of a hidden unit's incoming weights (biases not included), 0 for no limit; whoever trains the network
    calls `after_step` after each optimizer step. Raises ValueError.
    """

    def __init__(
        self,
        hidden: Sequence[int] = (800, 800),
        num_classes: int = 10,
        image_size: int = 28,
        in_channels: int = 1,
        input_dropout: float = 0.0,
        dropout: float = 0.0,
        max_norm: float = 0.0,
    ):
        super().__init__()
        if not hidden or not all(type(width) is int and width > 0 for width in hidden):
            raise ValueError(f"hidden={hidden}: the units of each hidden layer, one or more, as in [800,800]")
        for name, share in (("input_dropout", input_dropout), ("dropout", dropout)):
            if not 0 <= share < 1:
                raise ValueError(f"{name}={share}: must be from 0 (off) to below 1")
        if not max_norm >= 0:
            raise ValueError(f"max_norm={max_norm}: must be 0 (no limit) or more")
        self.num_classes, self.widths = num_classes, tuple(hidden)
        self.input_dropout, self.dropout, self.max_norm = input_dropout, dropout, max_norm
        widths = [in_channels * image_size**2, *hidden]
        self.layers = nn.ModuleList(nn.Linear(before, width) for before, width in zip(widths, widths[1:]))
        self.fc = nn.Linear(widths[-1], num_classes)

    @property
    def taps(self) -> dict[str, Tap]:
        """The last hidden layer. There are no maps."""
        return {"embedding": Tap(self.widths[-1], 1)}

    def forward(self, images: Tensor) -> Output:
        x = F.dropout(images.flatten(1), self.input_dropout, self.training)
        for layer in self.layers:
            hidden = F.relu(layer(x))
            x = F.dropout(hidden, self.dropout, self.training)
        return Output(self.fc(x), {"embedding": hidden})

    @torch.no_grad()
    def after_step(self) -> None:
        """Scale down the incoming weights of every hidden unit whose norm is above `max_norm`."""
        if self.max_norm:
            for layer in self.layers:
                norms = layer.weight.norm(dim=1, keepdim=True)
                layer.weight.mul_(self.max_norm / norms.clamp(min=self.max_norm))
