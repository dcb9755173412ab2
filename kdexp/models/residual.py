"""What ResNets and ShuffleNetV1 share: a stem, stages of blocks that end in a sum and its ReLU, and a linear layer."""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from kdexp.models import Output, SignedTap, Tap


class ResidualNetwork(nn.Module):
    """The stem is a convolution with BatchNorm; the linear layer reads the mean of the last map.

    num_classes: size of the logits. image_size: height and width of the images, for the sizes of the taps. in_channels:
    of the images. block(in_channels, channels, stride): returns its sum before the ReLU. widths: channels of the stem
    and of each stage. blocks: number of blocks in each stage.

    stem: the size of its kernel. strides: of each stage's first block. last_norm: the name of the last BatchNorm in a
    block.
    """

    stem = 3
    strides: tuple[int, ...] = (1, 2, 2, 2)
    last_norm = "bn3"
    # the names in RepDistiller (models/resnet.py, ShuffleNetv1.py), mdistiller (mdistiller/models/cifar, the same) and,
    # for ResNets with shortcuts A, akamaster/pytorch_resnet_cifar10 (resnet.py), which compute the same functions
    names_elsewhere: tuple[tuple[str, str], ...] = (
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
        num_classes: int,
        image_size: int,
        in_channels: int,
        block: Callable[[int, int, int], nn.Module],
        widths: Sequence[int],
        blocks: Sequence[int],
    ):
        super().__init__()
        self.num_classes, self.image_size, self.widths = num_classes, image_size, tuple(widths)
        self.conv = nn.Conv2d(in_channels, widths[0], self.stem, padding=self.stem // 2, bias=False)
        self.bn = nn.BatchNorm2d(widths[0])
        self.stages = nn.ModuleList(
            self.stage(block, *sizes) for sizes in zip(widths, widths[1:], self.strides, blocks)
        )
        self.fc = nn.Linear(widths[-1], num_classes)

    @staticmethod
    def stage(block: Callable, in_channels: int, channels: int, stride: int, count: int) -> nn.Sequential:
        rest = (block(channels, channels, 1) for _ in range(count - 1))
        return nn.Sequential(block(in_channels, channels, stride), *rest)

    @property
    def taps(self) -> dict[str, Tap]:
        size = self.image_size
        taps = {"stem": Tap(self.widths[0], size)}
        for number, (width, stride, stage) in enumerate(zip(self.widths[1:], self.strides, self.stages), start=1):
            size = (size + stride - 1) // stride
            taps[f"stage{number}"] = Tap(width, size)
            taps[f"stage{number}_pre"] = SignedTap(width, size, norm=getattr(stage[-1], self.last_norm))
        return taps | {"embedding": Tap(self.widths[-1], 1)}

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
