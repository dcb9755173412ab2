"""ResNet for small images: He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2.

Differs from the paper: (1) shortcuts that change shape are type B (1x1 convolution and BatchNorm) by default, as in
RepDistiller and the attention-transfer code; the paper's CIFAR networks use type A (shortcut="A").
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from kdexp.models import Output, SignedTap, Tap, initialise


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


class ResNet(nn.Module):
    """ResNet-(6n+2) of basic blocks.

    depth: 6n+2, so 8, 14, 20, ... num_classes: size of the logits. widths: channels of the stem and of the three stages
    ("resnet8x4" has (32, 64, 128, 256)). image_size: height and width of the images, for the sizes of the taps.
    shortcut: "A" or "B", the type used where the shape changes (section 3.3 of the paper). in_channels: of the images.
    Raises ValueError for any other depth, number of widths or shortcut.
    """

    # the names in RepDistiller (models/resnet.py), mdistiller (mdistiller/models/cifar/resnet.py) and, with shortcuts A,
    # akamaster/pytorch_resnet_cifar10 (resnet.py), which compute the same function
    names_elsewhere = (
        (r"^conv1\.", "conv."),
        (r"^bn1\.", "bn."),
        (r"^layer1\.", "stages.0."),
        (r"^layer2\.", "stages.1."),
        (r"^layer3\.", "stages.2."),
        (r"\.downsample\.", ".shortcut."),
        (r"^linear\.", "fc."),
    )

    def __init__(
        self,
        depth: int = 32,
        num_classes: int = 100,
        widths: Sequence[int] = (16, 16, 32, 64),
        image_size: int = 32,
        shortcut: str = "B",
        in_channels: int = 3,
    ):
        super().__init__()
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
        self.depth, self.num_classes, self.widths, self.image_size = depth, num_classes, tuple(widths), image_size
        self.conv = nn.Conv2d(in_channels, widths[0], 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(widths[0])
        self.stages = nn.ModuleList(
            nn.Sequential(
                *[
                    BasicBlock(before if i == 0 else width, width, stride if i == 0 else 1, SHORTCUTS[shortcut])
                    for i in range(blocks)
                ]
            )
            for before, width, stride in zip(widths, widths[1:], (1, 2, 2))
        )
        self.fc = nn.Linear(widths[3], num_classes)
        initialise(self)

    @property
    def taps(self) -> dict[str, Tap]:
        size = self.image_size
        taps = {"stem": Tap(self.widths[0], size)}
        for number, (width, stage) in enumerate(zip(self.widths[1:], self.stages), start=1):
            taps[f"stage{number}"] = Tap(width, size)
            taps[f"stage{number}_pre"] = SignedTap(width, size, norm=stage[-1].bn2)
            size = (size + 1) // 2
        return taps | {"embedding": Tap(self.widths[3], 1)}

    def forward(self, images: Tensor) -> Output:
        x = F.relu(self.bn(self.conv(images)))
        features = {"stem": x}
        for number, stage in enumerate(self.stages, start=1):
            for block in stage:
                before_relu = block(x)
                x = F.relu(before_relu)
            features[f"stage{number}_pre"], features[f"stage{number}"] = before_relu, x
        features["embedding"] = x.mean((2, 3))
        return Output(self.fc(features["embedding"]), features)
