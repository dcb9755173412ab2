"""VGG for small images: Simonyan & Zisserman 2015, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
table 1, as in RepDistiller (models/vgg.py).

Differs from the paper: (1) A BatchNorm follows every convolution. (2) The classifier is one linear layer on the mean of
the last map. (3) For images below 64x64, there is no pooling between the last two blocks. (4) vgg8, with one convolution
per block, is RepDistiller's.

Taps: the five blocks' outputs are `stem` and stage1 to stage4, RepDistiller's feat[0] to feat[4]; so stage2 is its hint
layer and the last stage its feat[-2].
"""

import torch.nn.functional as F
from torch import Tensor, nn

from kdexp.models import Output, SignedTap, Tap, initialise

WIDTHS = (64, 128, 256, 512, 512)
CONVOLUTIONS = {  # depth -> convolutions in each block
    8: (1, 1, 1, 1, 1),
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}


def block(in_channels: int, channels: int, convolutions: int) -> nn.Sequential:
    """conv-BN-ReLU-...-conv-BN, without the last ReLU."""
    layers = []
    for number in range(convolutions):
        conv = nn.Conv2d(channels if number else in_channels, channels, 3, padding=1)
        layers += [conv, nn.BatchNorm2d(channels), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class VGG(nn.Module):
    """VGG with BatchNorm.

    depth: 8, 11, 13, 16 or 19. num_classes: size of the logits. image_size: height and width of the images. in_channels:
    of the images. Raises ValueError for any other depth.
    """

    # the names in RepDistiller and mdistiller (mdistiller/models/cifar/vgg.py), which compute the same function
    names_elsewhere = ((r"^block(\d)\.", r"blocks.\1."), (r"^classifier\.", "fc."))

    def __init__(self, depth: int = 13, num_classes: int = 100, image_size: int = 32, in_channels: int = 3):
        super().__init__()
        if depth not in CONVOLUTIONS:
            raise ValueError(f"depth={depth}: a VGG has one of these depths: {', '.join(map(str, CONVOLUTIONS))}")
        self.num_classes, self.image_size = num_classes, image_size
        self.blocks = nn.ModuleList(map(block, (in_channels, *WIDTHS), WIDTHS, CONVOLUTIONS[depth]))
        self.fc = nn.Linear(WIDTHS[-1], num_classes)
        self.pooled = (1, 2, 3, 4) if image_size >= 64 else (1, 2, 3)  # blocks with a 2x2 pooling in front
        initialise(self)
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.fc.weight, std=0.01)

    @property
    def taps(self) -> dict[str, Tap]:
        size = self.image_size
        taps = {"stem": Tap(WIDTHS[0], size)}
        for number in (1, 2, 3, 4):
            size = size // 2 if number in self.pooled else size
            taps[f"stage{number}"] = Tap(WIDTHS[number], size)
            taps[f"stage{number}_pre"] = SignedTap(WIDTHS[number], size, norm=self.blocks[number][-1])
        return taps | {"embedding": Tap(WIDTHS[-1], 1)}

    def forward(self, images: Tensor) -> Output:
        x = F.relu(self.blocks[0](images))
        features = {"stem": x}
        for number in (1, 2, 3, 4):
            before_relu = self.blocks[number](F.max_pool2d(x, 2) if number in self.pooled else x)
            x = F.relu(before_relu)
            features[f"stage{number}_pre"], features[f"stage{number}"] = before_relu, x
        features["embedding"] = x.mean((2, 3))
        return Output(self.fc(features["embedding"]), features)
