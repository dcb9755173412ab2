"""ShuffleNetV2 for small images: Ma et al. 2018, "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture
Design", table 5 at width 1x, as in RepDistiller (models/ShuffleNetv2.py).

Differs from the paper: (1) The stem is a 1x1 convolution with stride 1 and no pooling, so for a 32x32 image the stages
have 16, 8 and 4 rows.

Taps: RepDistiller's feat[0] is `stem`, feat[1] to feat[3] are stage1 to stage3; so stage2 is its hint layer and the last
stage, the input of the last convolution, its feat[-2]. A *_pre tap holds the half that the last unit passes on and the
other half before its ReLU, not shuffled. Only one half has a BatchNorm, so the taps name none, and this network cannot
be a teacher for OD, here or in RepDistiller.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdexp.models import Output, SignedTap, Tap
from kdexp.models.shufflenetv1 import shuffled

WIDTHS = (24, 116, 232, 464)  # stem and three stages
EMBEDDING = 1024
UNITS = (3, 7, 3)  # after the one that halves the map


def pointwise(in_channels: int, channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, channels, 1, bias=False)


def depthwise(channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False)


class Unit(nn.Module):
    """Figure 3 (c): passes one half of the channels on. Returns that half, and the other half before its ReLU."""

    def __init__(self, channels: int):
        super().__init__()
        half = channels // 2
        self.conv1, self.bn1 = pointwise(half, half), nn.BatchNorm2d(half)
        self.conv2, self.bn2 = depthwise(half, 1), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = pointwise(half, half), nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        passed, x = x.chunk(2, dim=1)
        out = F.relu(self.bn1(self.conv1(x)))
        return passed, self.bn3(self.conv3(self.bn2(self.conv2(out))))


class HalvingUnit(nn.Module):
    """Figure 3 (d): two branches halve the map. Returns one, and the other before its ReLU."""

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        half = channels // 2
        self.conv1, self.bn1 = depthwise(in_channels, 2), nn.BatchNorm2d(in_channels)
        self.conv2, self.bn2 = pointwise(in_channels, half), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = pointwise(in_channels, half), nn.BatchNorm2d(half)
        self.conv4, self.bn4 = depthwise(half, 2), nn.BatchNorm2d(half)
        self.conv5, self.bn5 = pointwise(half, half), nn.BatchNorm2d(half)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first = F.relu(self.bn2(self.conv2(self.bn1(self.conv1(x)))))
        out = F.relu(self.bn3(self.conv3(x)))
        return first, self.bn5(self.conv5(self.bn4(self.conv4(out))))


class ShuffleNetV2(nn.Module):
    """num_classes: size of the logits. image_size: height and width of the images, for the sizes of the taps.
    in_channels: of the images. Uses torch's default initialization, as in RepDistiller."""

    # the names in RepDistiller and mdistiller (mdistiller/models/cifar/ShuffleNetv2.py), which compute the same function
    names_elsewhere = (
        (r"^layer1\.", "stages.0."),
        (r"^layer2\.", "stages.1."),
        (r"^layer3\.", "stages.2."),
        (r"^linear\.", "fc."),
    )

    def __init__(self, num_classes: int = 100, image_size: int = 32, in_channels: int = 3):
        super().__init__()
        self.num_classes, self.image_size = num_classes, image_size
        self.conv1, self.bn1 = pointwise(in_channels, WIDTHS[0]), nn.BatchNorm2d(WIDTHS[0])
        self.stages = nn.ModuleList(
            nn.Sequential(HalvingUnit(before, width), *[Unit(width) for _ in range(units)])
            for before, width, units in zip(WIDTHS, WIDTHS[1:], UNITS)
        )
        self.conv2, self.bn2 = pointwise(WIDTHS[-1], EMBEDDING), nn.BatchNorm2d(EMBEDDING)
        self.fc = nn.Linear(EMBEDDING, num_classes)

    @property
    def taps(self) -> dict[str, Tap]:
        size = self.image_size
        taps = {"stem": Tap(WIDTHS[0], size)}
        for number, width in enumerate(WIDTHS[1:], start=1):
            size = (size + 1) // 2
            taps[f"stage{number}"], taps[f"stage{number}_pre"] = Tap(width, size), SignedTap(width, size)
        return taps | {"embedding": Tap(EMBEDDING, 1)}

    def forward(self, images: Tensor) -> Output:
        x = F.relu(self.bn1(self.conv1(images)))
        features = {"stem": x}
        for number, units in enumerate(self.stages, start=1):
            for unit in units:
                passed, before_relu = unit(x)
                x = shuffled(torch.cat([passed, F.relu(before_relu)], 1), 2)
            features[f"stage{number}_pre"], features[f"stage{number}"] = torch.cat([passed, before_relu], 1), x
        features["embedding"] = F.relu(self.bn2(self.conv2(x))).mean((2, 3))
        return Output(self.fc(features["embedding"]), features)
