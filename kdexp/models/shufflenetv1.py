"""ShuffleNet for small images: Zhang et al. 2018, "ShuffleNet: An Extremely Efficient Convolutional Neural Network for
Mobile Devices", table 1 with 3 groups, as in RepDistiller (models/ShuffleNetv1.py).

Differs from the paper: (1) The stem is a 1x1 convolution with stride 1 and no pooling, so for a 32x32 image the stages
have 16, 8 and 4 rows. (2) A ReLU follows the 3x3 convolutions. (3) The inner width of a stage's first unit is a quarter
of the channels that the unit adds.

Taps: RepDistiller's feat[0] is `stem`, feat[1] to feat[3] are stage1 to stage3; so stage2 is its hint layer and the last
stage its feat[-2]. RepDistiller names no BatchNorm before the ReLUs, so there this network cannot be a teacher for OD.
Here it is the last unit's BatchNorm; the tap is its output plus the shortcut, as in a ResNet.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdexp.models.residual import ResidualNetwork

WIDTHS = (24, 240, 480, 960)  # stem and three stages
UNITS = (4, 8, 4)
CONV_GROUPS = 3


def shuffled(x: Tensor, groups: int) -> Tensor:
    """Channel shuffle: the first channel of every group, then the second of every group, ...: (batch, channels, height,
    width). Keeps the channels-last memory format of the networks, which saves a tenth of a step."""
    last = x.movedim(1, -1)  # (batch, height, width, channels)
    return last.unflatten(-1, (groups, -1)).transpose(-1, -2).flatten(-2).movedim(-1, 1)


class Unit(nn.Module):
    """Grouped 1x1 convolution, shuffle, depthwise 3x3 convolution, grouped 1x1 convolution; plus the input or, with
    stride 2, concatenated with the averaged input. Returns the result before its ReLU.

    channels: channels of the result.
    """

    def __init__(self, in_channels: int, channels: int, stride: int):
        super().__init__()
        groups = CONV_GROUPS if in_channels > WIDTHS[0] else 1  # not grouped after the stem, which has few channels
        own = channels if stride == 1 else channels - in_channels
        inner = own // 4
        self.groups, self.stride = groups, stride
        self.conv1 = nn.Conv2d(in_channels, inner, 1, groups=groups, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, groups=inner, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, own, 1, groups=CONV_GROUPS, bias=False)
        self.bn3 = nn.BatchNorm2d(own)

    def forward(self, x: Tensor) -> Tensor:
        out = shuffled(F.relu(self.bn1(self.conv1(x))), self.groups)
        out = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(out)))))
        if self.stride == 1:
            return out + x
        return torch.cat([out, F.avg_pool2d(x, 3, self.stride, padding=1)], 1)


class ShuffleNetV1(ResidualNetwork):
    """num_classes: size of the logits. image_size: height and width of the images, for the sizes of the taps.
    in_channels: of the images. Uses torch's default initialization, as in RepDistiller."""

    stem = 1
    strides = (2, 2, 2)

    def __init__(self, num_classes: int = 100, image_size: int = 32, in_channels: int = 3):
        super().__init__(num_classes, image_size, in_channels, Unit, WIDTHS, UNITS)

    @staticmethod
    def stage(block: Callable, in_channels: int, channels: int, stride: int, count: int) -> nn.Sequential:
        rest = [block(channels, channels, 1) for _ in range(count - 1)]  # first, or a seed gives other weights
        return nn.Sequential(block(in_channels, channels, stride), *rest)
