"""FT: Kim, Park & Kwak 2018, "Paraphrasing Complex Network: Network Compression via Factor Transfer".

    L = mean over (batch, H*W) of | A(f_s) - A(f_t) |,    A = a / |a|,    a = mean over channels of f^2, flattened
    f_t = encoder(t),    f_s = translator(s)

s, t: the last stage's maps. Encoder and decoder (the "paraphraser") learn to reconstruct t before the student trains;
the map between them, half as wide as t, is the teacher's factor. The translator is trained with the student.

Follows RepDistiller (distiller_zoo/FT.py, helper/pretrain.py): weight 200, 30 epochs at learning rate 0.01, its rate for
ResNets and WRNs (for others it uses the student's: `distill.pretrain_lr=0.05`). Differs from the paper: (1) factors are
compared as attention maps; the paper divides the whole factor by its norm. Differs from the code: (2) a teacher with one
channel has a factor with one channel, and a batch of one with a 1x1 map is accepted; the code fails on both.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdexp.distill.at import attention
from kdexp.distill.base import BatchNorm, DistillMethod, Pretraining, full_precision, same_size
from kdexp.models import Output, Tap


@full_precision
def factor_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean absolute difference of the attention maps of two factors (batch, channels, H, W); channels may differ, the
    larger map is pooled."""
    student, teacher = same_size(student, teacher)
    return F.l1_loss(attention(student), attention(teacher))


def coder(channels: list[int], convolution: type[nn.Module], norm: bool) -> nn.Sequential:
    """3x3 convolutions through this list of channels, each with a BatchNorm (if `norm`) and a leaky ReLU."""
    layers: list[nn.Module] = []
    for before, after in zip(channels, channels[1:]):
        layers += [convolution(before, after, 3, 1, 1), *([BatchNorm(after)] if norm else []), nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers)


class FT(DistillMethod):
    """Uses factors of the last stage. pretrain_epochs, pretrain_lr: epochs and rate of the paraphraser's training."""

    reads = ("last_stage",)
    pools = True

    def __init__(
        self,
        student_taps: dict[str, Tap],
        teacher_taps: dict[str, Tap],
        pretrain_epochs: int = 30,
        pretrain_lr: float = 0.01,
    ):
        super().__init__(student_taps, teacher_taps)
        ((student, teacher),) = self.taps
        wide, wider = student.channels, teacher.channels
        factor = max(wider // 2, 1)
        self.encoder = coder([wider, wider, factor, factor], nn.Conv2d, norm=False)
        self.decoder = coder([factor, factor, wider, wider], nn.ConvTranspose2d, norm=False)
        self.translator = coder([wide, wide, factor, factor], nn.Conv2d, norm=True)
        self.pretrain_epochs, self.pretrain_lr = pretrain_epochs, pretrain_lr

    def pretraining(self) -> Pretraining:
        return Pretraining(self.pretrain_epochs, self.pretrain_lr, self.reconstruction, trains_student=False)

    def reconstruction(self, student: Output | None, teacher: Output) -> Tensor:
        """Mean squared error of the paraphraser on the teacher's map."""
        target = teacher.features[self.pairs[0][1]]
        with torch.autocast(target.device.type, enabled=False):
            return F.mse_loss(self.decoder(self.encoder(target.float())), target.float())

    def forward(self, student: Output, teacher: Output) -> Tensor:
        ((s, t),) = self.maps(student, teacher)
        with torch.no_grad():  # already trained
            factor = self.encoder(t)
        return factor_loss(self.translator(s), factor)
