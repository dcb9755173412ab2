"""ResNet50 for small images: He et al. 2016, "Deep Residual Learning for Image Recognition", figure 5 and table 1, as
in RepDistiller (models/resnetv2.py).

Differs from the paper: (1) The stem is a 3x3 convolution with stride 1 and no pooling, so for a 32x32 image the stages
have 32, 16, 8 and 4 rows. (2) A block's stride is in its 3x3 convolution.

Taps: RepDistiller's feat[0] is `stem`, feat[1] to feat[4] are stage1 to stage4; so stage2 is its hint layer and the last
stage its feat[-2].
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from kdexp.models import initialise
from kdexp.models.residual import ResidualNetwork
from kdexp.models.resnet import ShortcutB


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, each with a BatchNorm, plus the shortcut; returns the sum before its ReLU.
    channels: channels of the sum; the 3x3 convolution has a quarter of them."""

    def __init__(self, in_channels: int, channels: int, stride: int):
        super().__init__()
        inner = channels // 4
        self.conv1 = nn.Conv2d(in_channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = ShortcutB(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = F.relu(self.bn2(self.conv2(out)))
        return self.bn3(self.conv3(out)) + self.shortcut(x)


class BottleneckResNet(ResidualNetwork):
    """ResNet50: four stages of bottleneck blocks.

    num_classes: size of the logits. image_size: height and width of the images, for the sizes of the taps. blocks:
    number of blocks in each stage. in_channels: of the images.
    """

    # the names in RepDistiller and mdistiller (mdistiller/models/cifar/resnetv2.py), which compute the same function
    names_elsewhere = (*ResidualNetwork.names_elsewhere, (r"^layer4\.", "stages.3."))

    def __init__(
        self,
        num_classes: int = 100,
        image_size: int = 32,
        blocks: Sequence[int] = (3, 4, 6, 3),
        in_channels: int = 3,
    ):
        super().__init__(num_classes, image_size, in_channels, Bottleneck, (64, 256, 512, 1024, 2048), blocks)
        initialise(self)
