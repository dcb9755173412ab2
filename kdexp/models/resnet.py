"""ResNet for small images: He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2.

Differs from the paper: (1) shortcuts that change shape are type B (1x1 convolution and BatchNorm) by default, as in
RepDistiller and the attention-transfer code; the paper's CIFAR networks use type A (shortcut="A").
"""

from collections.abc import Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from kdexp.models import initialise
from kdexp.models.residual import ResidualNetwork


class ShortcutA(nn.Module):
    """Takes every `stride`-th pixel and adds zero channels on both sides; no parameters."""

    def __init__(self, in_channels: int, channels: int, stride: int):
        super().__init__()
        if channels < in_channels:
            raise ValueError(f"shortcut=A adds channels and cannot go from {in_channels} to {channels}")
        before = (channels - in_channels) // 2
        self.stride, self.padding = stride, (0, 0, 0, 0, before, channels - in_channels - before)

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], self.padding)


class ShortcutB(nn.Sequential):
    """1x1 convolution and BatchNorm."""

    def __init__(self, in_channels: int, channels: int, stride: int):
        super().__init__(nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))


SHORTCUTS = {"A": ShortcutA, "B": ShortcutB}


class BasicBlock(nn.Module):
    """conv-BN-ReLU-conv-BN plus shortcut; returns the sum before its ReLU."""

    def __init__(self, in_channels: int, channels: int, stride: int, shortcut: type[nn.Module]):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = shortcut(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(out)) + self.shortcut(x)


class ResNet(ResidualNetwork):
    """ResNet-(6n+2) of basic blocks.

    depth: 6n+2, so 8, 14, 20, ... num_classes: size of the logits. widths: channels of the stem and of the three stages
    ("resnet8x4" has (32, 64, 128, 256)). image_size: height and width of the images, for the sizes of the taps.
    shortcut: "A" or "B", the type used where the shape changes (section 3.3 of the paper). in_channels: of the images.
    Raises ValueError for any other depth, number of widths or shortcut.
    """

    strides = (1, 2, 2)
    last_norm = "bn2"

    def __init__(
        self,
        depth: int = 32,
        num_classes: int = 100,
        widths: Sequence[int] = (16, 16, 32, 64),
        image_size: int = 32,
        shortcut: str = "B",
        in_channels: int = 3,
    ):
        blocks, rest = divmod(depth - 2, 6)
        if rest or blocks < 1:
            near = [6 * n + 2 for n in (max(blocks, 1), max(blocks, 1) + 1)]
            raise ValueError(
                f"depth={depth}: a ResNet has 6n+2 layers: 8, 14, 20, ...; the nearest are {near[0]} and {near[1]}"
            )
        if len(widths) != 4 or min(widths) < 1:
            raise ValueError(f"widths={list(widths)}: four positive numbers, the stem's and the three stages' channels")
        if shortcut not in SHORTCUTS:
            raise ValueError(f"shortcut={shortcut}: must be A or B")
        block = partial(BasicBlock, shortcut=SHORTCUTS[shortcut])
        super().__init__(num_classes, image_size, in_channels, block, widths, [blocks] * 3)
        self.depth = depth
        initialise(self)
