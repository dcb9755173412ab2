"""Scores a network on images. `python -m kdexp.evaluate` scores a run or any file of weights."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdexp.datasets import Images
from kdexp.datasets.batches import Pixels

# Images per pass. On the CPU, larger batches have feature maps so large that the system reclaims their memory after each
# layer and clears it again: 1000 take 2.4 times as long with a resnet8 at 32x32, less with larger networks; same bits.
BATCH = {"cpu": 125}
ELSEWHERE = 1000


class Score(NamedTuple):
    """loss: mean cross entropy. acc, top5: percent. logits: (N, classes). predictions: (N,) the class of each image."""

    loss: float
    acc: float
    top5: float
    logits: Tensor

    @property
    def predictions(self) -> Tensor:
        return self.logits.argmax(1)


@torch.no_grad()
def evaluate(network: nn.Module, data: Images, pixels: Pixels, batch_size: int | None = None) -> Score:
    """Score a network in float32 and eval mode, then restore its mode. batch_size: None for the device's default."""
    was_training, batch_size = network.training, batch_size or BATCH.get(data.images.device.type, ELSEWHERE)
    network.eval()
    logits = torch.cat([network(pixels.normalise(part)).logits.float() for part in data.images.split(batch_size)])
    network.train(was_training)
    five = logits.topk(min(5, logits.shape[1]), dim=1).indices
    right = five == data.labels[:, None]
    return Score(
        F.cross_entropy(logits, data.labels).item(),
        100 * right[:, 0].sum().item() / len(right),
        100 * right.any(1).sum().item() / len(right),
        logits,
    )
