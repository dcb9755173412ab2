"""ReviewKD: Chen et al. 2021, "Distilling Knowledge via Knowledge Review".

    L = sum over outputs o of hcl(o, t),    hcl = sum over sizes of w * mean squared error of the maps pooled to this size

Outputs: from the deepest tap (the embedding) to stage 1, each fuses the student's map with the result from the deeper
taps, by attention over the two (ABF), and is compared with the teacher's map before its ReLU. hcl: the sizes are the
map's own (w = 1), 4, 2 and 1 (w = 1/2, 1/4, 1/8; only sizes smaller than the map), divided by the sum of w.

Follows mdistiller (mdistiller/distillers/ReviewKD.py), which matches the authors' dvlab-research/ReviewKD: the loss warms
up to its weight over the first 20 of 240 epochs. Weight 1 is the default of both; for their weights per pair see the
README of this folder. Differs from it: (1) a batch of one is accepted; mdistiller's BatchNorm raises at the embedding.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdexp.distill.base import Batch, BatchNorm, DistillMethod, average_pool, full_precision, warmed_up
from kdexp.models import Output, Tap

WIDEST = 512  # most channels inside an ABF


@full_precision
def hcl_loss(student_maps: Sequence[Tensor], teacher_maps: Sequence[Tensor]) -> Tensor:
    """hcl, summed over two lists of maps (batch, channels, H, W); the maps of a pair have the same shape."""
    return sum(_hcl(s, t) for s, t in zip(student_maps, teacher_maps))


def _hcl(student: Tensor, teacher: Tensor) -> Tensor:
    total, weight, weights = F.mse_loss(student, teacher), 1.0, 1.0
    for size in (4, 2, 1):
        if size < student.shape[2]:
            weight /= 2
            weights += weight
            total = total + weight * F.mse_loss(*(average_pool(x, [size, size]) for x in (student, teacher)))
    return total / weights


class ABF(nn.Module):
    """Attention-based fusion of a student's map with the result from the deeper ones.

    channels: channels of the map. inside: channels of the map passed on. out, size: channels and size of the output.
    fuses: False for the deepest one.
    """

    def __init__(self, channels: int, inside: int, out: int, size: int, fuses: bool):
        super().__init__()
        self.size = size
        self.conv1 = nn.Sequential(nn.Conv2d(channels, inside, 1, bias=False), BatchNorm(inside))
        self.conv2 = nn.Sequential(nn.Conv2d(inside, out, 3, padding=1, bias=False), BatchNorm(out))
        self.attention = nn.Sequential(nn.Conv2d(2 * inside, 2, 1), nn.Sigmoid()) if fuses else None
        for convolution in (self.conv1[0], self.conv2[0]):
            nn.init.kaiming_uniform_(convolution.weight, a=1)

    def forward(self, x: Tensor, deeper: Tensor | None) -> tuple[Tensor, Tensor]:
        """Returns (output, map to pass on)."""
        x = self.conv1(x)
        if self.attention is not None:
            deeper = F.interpolate(deeper, x.shape[2:], mode="nearest")
            share = self.attention(torch.cat([x, deeper], 1))
            x = x * share[:, :1] + deeper * share[:, 1:]
        if x.shape[2] != self.size:
            x = F.interpolate(x, (self.size, self.size), mode="nearest")
        return self.conv2(x), x


class ReviewKD(DistillMethod):
    """Uses stages and embedding. warmup: the fraction of the epochs over which the loss rises from 0 to its weight."""

    reads = (("stage*", "stage*_pre"), "embedding")

    def __init__(self, student_taps: dict[str, Tap], teacher_taps: dict[str, Tap], warmup: float = 20 / 240):
        super().__init__(student_taps, teacher_taps)
        self.warmup, inside = warmup, min(WIDEST, student_taps["embedding"].channels)
        self.fusions = nn.ModuleList()  # the deepest first
        for s, t in reversed(self.taps):
            self.fusions.append(ABF(s.channels, inside, t.channels, t.size, fuses=len(self.fusions) > 0))

    def forward(self, student: Output, teacher: Output) -> Tensor:
        maps = [tuple(x if x.dim() == 4 else x[:, :, None, None] for x in pair) for pair in self.maps(student, teacher)]
        outputs, deeper = [], None
        for fusion, (x, _) in zip(self.fusions, reversed(maps)):
            output, deeper = fusion(x, deeper)
            outputs.append(output)
        return hcl_loss(outputs, [target for _, target in reversed(maps)])

    def loss(self, student: Output, teacher: Output, batch: Batch) -> Tensor:
        return warmed_up(batch.progress, self.warmup) * self(student, teacher)
