"""MobileNetV2 for small images, at half the width: Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear
Bottlenecks", table 2, as in RepDistiller (models/mobilenetv2.py, `mobile_half`).

Differs from the paper: (1) Half the channels, except in the last convolution. (2) ReLU instead of ReLU6. (3) The
24-channel group has stride 1. (4) The first block has a 1x1 convolution too, although it expands nothing. (5) No
dropout.

Taps: RepDistiller's feat[0] is `stem`, feat[1] to feat[4] are stage1 to stage4, the last maps with 16, 8, 4 and 2 rows
(for a 32x32 image; the 96-channel map for 4 rows). So stage2 is its hint layer and the last stage its feat[-2]. No ReLU
follows these, so each stage is its own *_pre.
"""

from torch import Tensor, nn

from kdexp.models import Output, SignedTap, Tap, initialise

# (expansion, channels in the paper, blocks, stride, the stage that the group ends)
GROUPS = (
    (1, 16, 1, 1, None),
    (6, 24, 2, 1, 1),
    (6, 32, 3, 2, 2),
    (6, 64, 4, 2, None),
    (6, 96, 3, 1, 3),
    (6, 160, 3, 2, None),
    (6, 320, 1, 1, 4),
)


def layer(in_channels: int, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Convolution, BatchNorm and ReLU."""
    conv = nn.Conv2d(in_channels, channels, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(channels), nn.ReLU()]


class InvertedResidual(nn.Module):
    """1x1 convolution to `expansion` times the channels, depthwise 3x3 convolution, 1x1 convolution without ReLU; plus
    the input if the shape does not change."""

    def __init__(self, in_channels: int, channels: int, stride: int, expansion: int):
        super().__init__()
        inner = in_channels * expansion
        expand, each, project = (
            layer(in_channels, inner, 1),
            layer(inner, inner, 3, stride, groups=inner),
            layer(inner, channels, 1)[:2],
        )
        self.layers = nn.Sequential(*expand, *each, *project)
        self.adds = stride == 1 and in_channels == channels

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.adds else self.layers(x)


class MobileNetV2(nn.Module):
    """num_classes: size of the logits. image_size: height and width of the images, for the sizes of the taps.
    in_channels: of the images."""

    # the names in RepDistiller and mdistiller (mdistiller/models/cifar/mobilenetv2.py), which compute the same function
    names_elsewhere = (
        (r"^conv1\.", "stem."),
        (r"^blocks\.(.*)\.conv\.", r"groups.\1.layers."),
        (r"^conv2\.", "head."),
        (r"^classifier\.0\.", "fc."),
    )

    def __init__(self, num_classes: int = 100, image_size: int = 32, in_channels: int = 3):
        super().__init__()
        self.num_classes, self.image_size = num_classes, image_size
        self.stem = nn.Sequential(*layer(in_channels, 16, 3, stride=2))
        self.groups, before = nn.ModuleList(), 16
        for expansion, channels, blocks, stride, _ in GROUPS:
            steps = [(before, stride), *[(channels // 2, 1)] * (blocks - 1)]
            group = [InvertedResidual(width, channels // 2, stride, expansion) for width, stride in steps]
            self.groups.append(nn.Sequential(*group))
            before = channels // 2
        self.head = nn.Sequential(*layer(before, 1280, 1))
        self.fc = nn.Linear(1280, num_classes)
        initialise(self)
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)

    @property
    def taps(self) -> dict[str, Tap]:
        size = (self.image_size + 1) // 2
        taps = {"stem": Tap(16, size)}
        for group, (_, channels, _, stride, stage) in zip(self.groups, GROUPS):
            size = (size + stride - 1) // stride
            if stage:
                taps[f"stage{stage}"] = SignedTap(channels // 2, size)
                taps[f"stage{stage}_pre"] = SignedTap(channels // 2, size, norm=group[-1].layers[-1])
        return taps | {"embedding": Tap(1280, 1)}

    def forward(self, images: Tensor) -> Output:
        x = self.stem(images)
        features = {"stem": x}
        for group, (*_, stage) in zip(self.groups, GROUPS):
            x = group(x)
            if stage:
                features[f"stage{stage}"] = features[f"stage{stage}_pre"] = x
        features["embedding"] = self.head(x).mean((2, 3))
        return Output(self.fc(features["embedding"]), features)
