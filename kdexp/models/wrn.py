"""Wide residual network: Zagoruyko & Komodakis 2016, "Wide Residual Networks", in the pre-activation form of the
paper."""

import torch.nn.functional as F
from torch import Tensor, nn

from kdexp.models import Output, SignedTap, Tap, initialise


class PreActivationBlock(nn.Module):
    """BN-ReLU-conv-BN-ReLU-conv plus shortcut; a shortcut that changes shape is a 1x1 convolution of the activated
    input."""

    def __init__(self, in_channels: int, channels: int, stride: int):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, padding=1, bias=False)
        self.shortcut = None
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Conv2d(in_channels, channels, 1, stride, bias=False)

    def forward(self, x: Tensor, normed: Tensor) -> Tensor:
        """x: the raw input. normed: bn1(x), which the network computes once and also uses as a tap of the previous
        stage."""
        active = F.relu(normed)
        out = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return out + (x if self.shortcut is None else self.shortcut(active))


class WideResNet(nn.Module):
    """WRN-depth-widen_factor.

    depth: 6n+4, so 10, 16, 22, ... widen_factor: multiplies the stages' 16, 32 and 64 channels. num_classes: size of
    the logits. image_size: height and width of the images, for the sizes of the taps. in_channels: of the
    images. Raises ValueError for any other depth or factor.
    """

    # the names in RepDistiller (models/wrn.py) and mdistiller (mdistiller/models/cifar/wrn.py), which compute the same
    # function
    names_elsewhere = (
        (r"^conv1\.", "conv."),
        (r"^bn1\.", "bn."),
        (r"^block1\.layer\.", "stages.0."),
        (r"^block2\.layer\.", "stages.1."),
        (r"^block3\.layer\.", "stages.2."),
        (r"\.convShortcut\.", ".shortcut."),
    )

    def __init__(
        self,
        depth: int = 16,
        widen_factor: int = 4,
        num_classes: int = 100,
        image_size: int = 32,
        in_channels: int = 3,
    ):
        super().__init__()
        blocks, rest = divmod(depth - 4, 6)
        if rest or blocks < 1:
            near = [6 * n + 4 for n in (max(blocks, 1), max(blocks, 1) + 1)]
            raise ValueError(
                f"depth={depth}: a WRN has 6n+4 layers: 10, 16, 22, ...; the nearest are {near[0]} and {near[1]}"
            )
        if widen_factor < 1:
            raise ValueError(f"widen_factor={widen_factor}: must be 1 or more")
        widths = (16, 16 * widen_factor, 32 * widen_factor, 64 * widen_factor)
        self.depth, self.num_classes, self.widths, self.image_size = depth, num_classes, widths, image_size
        self.conv = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.stages = nn.ModuleList(
            nn.ModuleList(
                PreActivationBlock(before if i == 0 else width, width, stride if i == 0 else 1) for i in range(blocks)
            )
            for before, width, stride in zip(widths, widths[1:], (1, 2, 2))
        )
        self.bn = nn.BatchNorm2d(widths[3])
        self.fc = nn.Linear(widths[3], num_classes)
        initialise(self)
        nn.init.zeros_(self.fc.bias)

    def _norms_behind(self) -> list[nn.BatchNorm2d]:
        """The BatchNorm that reads the output of stage 1, 2 and 3."""
        return [self.stages[1][0].bn1, self.stages[2][0].bn1, self.bn]

    @property
    def taps(self) -> dict[str, Tap]:
        size = self.image_size
        taps = {"stem": SignedTap(16, size)}
        for number, (width, norm) in enumerate(zip(self.widths[1:], self._norms_behind()), start=1):
            taps[f"stage{number}"] = SignedTap(width, size)
            taps[f"stage{number}_pre"] = SignedTap(width, size, norm=norm)
            size = (size + 1) // 2
        return taps | {"embedding": Tap(self.widths[3], 1)}

    def forward(self, images: Tensor) -> Output:
        x = self.conv(images)
        features = {"stem": x}
        normed = self.stages[0][0].bn1(x)
        for number, (stage, norm_behind) in enumerate(zip(self.stages, self._norms_behind()), start=1):
            x = stage[0](x, normed)
            for block in stage[1:]:
                x = block(x, block.bn1(x))
            normed = norm_behind(x)
            features[f"stage{number}"], features[f"stage{number}_pre"] = x, normed
        features["embedding"] = F.relu(normed).mean((2, 3))
        return Output(self.fc(features["embedding"]), features)
