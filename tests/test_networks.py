"""RepDistiller's networks beside ResNet and WRN: what they compute from its files, tap by tap (data/networks.md)."""

import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from kdexp.config.targets import ShapesOnly
from kdexp.distill.base import DistillMethod
from kdexp.experiment.networks import build_network
from kdexp.models.foreign import load_weights
from kdexp.models.vgg import VGG

REFERENCE = np.load(Path(__file__).parent / "data" / "networks.npz")
NAMES = sorted({key.partition("/")[0] for key in REFERENCE})


def drawn(name, shape):
    return torch.from_numpy(np.random.RandomState(zlib.crc32(name.encode())).uniform(-1, 1, shape))


def layer(name, shape):
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    if len(shape) > 1:
        return drawn(name, shape) * math.sqrt(6 / math.prod(shape[1:]))
    return 1 + drawn(name, shape) / 2 if name.endswith(("weight", "running_var")) else 0.3 * drawn(name, shape)


def shapes(name):
    """Every layer of a state dict with the names of RepDistiller and mdistiller."""
    rows = [str(row).partition(" ") for row in REFERENCE[f"{name}/layers"]]
    return {key: [int(size) for size in shape.split("x") if size] for key, _, shape in rows}


def build(hydra, name, *words):
    config = hydra("dataset=cifar10", "distill=none", f"student={name}", *words)
    return build_network(config["model"]["student"], config["plugins"])


def close(found, wanted):
    torch.testing.assert_close(found, torch.from_numpy(wanted), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_from_their_file_it_computes_what_theirs_does(hydra, tmp_path, name):
    """Logits, every tap, and which BatchNorm stands before a stage's ReLU."""
    network = build(hydra, name).double().eval()
    state = {key: layer(key, shape) for key, shape in shapes(name).items()}
    torch.save({"model": state, "epoch": 240}, tmp_path / "x.pth")
    load_weights(network, tmp_path / "x.pth", name)
    with torch.no_grad():
        logits, features = network(2 * drawn("images", (2, 3, 32, 32)))
    close(logits, REFERENCE[f"{name}/logits"])
    taps = {key.partition("/")[2] for key in REFERENCE if key.startswith(f"{name}/")} - {"layers", "logits", "norms"}
    assert taps == set(network.taps) == set(features)
    for tap, x in features.items():
        close(torch.stack([x.mean(), x.square().mean(), (x * drawn(tap, x.shape)).mean()]), REFERENCE[f"{name}/{tap}"])
    for number, norm in enumerate(REFERENCE[f"{name}/norms"], start=1):
        assert torch.equal(network.taps[f"stage{number}_pre"].norm.weight, state[f"{norm}.weight"])


@pytest.mark.parametrize("name", ["vgg8", "mobilenetv2", "shufflenetv1", "shufflenetv2", "resnet50"])
def test_every_form_of_their_files(hydra, tmp_path, name):
    """Every layer is found, and our own names stay what they are."""
    network = build(hydra, name)
    for layers in (shapes(name), {key: value.shape for key, value in network.state_dict().items()}):
        for prefix in ("", "module.", "module.student."):  # bare, DataParallel, mdistiller
            state = {prefix + key: torch.zeros(()).expand(shape) for key, shape in layers.items()}
            torch.save(state, tmp_path / "x.pth")
            load_weights(network, tmp_path / "x.pth", name)


@pytest.mark.parametrize("size", [8, 19, 32, 64])
@pytest.mark.parametrize("name", NAMES)
def test_taps_of_images_of_other_sizes(hydra, name, size):
    with torch.device("meta"), ShapesOnly():
        network = build(hydra, name, f"model.student.image_size={size}")
        features = network(torch.randn(2, 3, size, size)).features
    assert {tap: tuple(x.shape[1:]) for tap, x in features.items()} == {
        tap: (channels,) + (side, side) * (tap != "embedding") for tap, (channels, side, _) in network.taps.items()
    }


@pytest.mark.parametrize(
    "teacher, student, stages",
    [
        ("vgg13", "mobilenetv2", 4),
        ("resnet50", "vgg8", 4),
        ("resnet32x4", "shufflenetv2", 3),
        ("resnet50", "wrn16_1", 3),
    ],
)
def test_methods_read_what_they_read_in_repdistiller(hydra, teacher, student, stages):
    """feat[1:-1] are all stages, feat[2] is stage2, feat[-2] the last stage of each."""
    with torch.device("meta"), ShapesOnly():
        theirs, ours = build(hydra, teacher).taps, build(hydra, student).taps

    class Reading(DistillMethod):
        reads = ("stage2", "stage*", "last_stage")

    last = [max(tap for tap in taps if tap.startswith("stage") and "_" not in tap) for taps in (ours, theirs)]
    wanted = ["stage2", *[f"stage{number}" for number in range(1, stages + 1)]]
    assert Reading(ours, theirs).pairs == [*[(tap, tap) for tap in wanted], tuple(last)]


@pytest.mark.parametrize("name", NAMES)
def test_initial_weights(hydra, name):
    """RepDistiller draws VGG's and MobileNetV2's convolutions from N(0, 2 / (k*k*C_out)), their last layers from
    N(0, 0.01^2), and leaves the ShuffleNets as torch has them."""
    torch.manual_seed(0)
    network = build(hydra, name)
    small, plain = name.startswith(("vgg", "mobile")), name.startswith("shuffle")
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 2000:
            width, per_output = module.out_channels, module.weight[0].numel()
            variance = 1 / (3 * per_output) if plain else 2 / (module.kernel_size[0] ** 2 * width)
            assert module.weight.std().item() == pytest.approx(math.sqrt(variance), rel=0.1)
            assert module.bias is None or not module.bias.any()
    assert small == (not network.fc.bias.any()) == (network.fc.weight.std().item() < 0.0105)


def test_another_depth_of_vgg_is_refused():
    with pytest.raises(ValueError, match="depth=12: a VGG has one of these depths: 8, 11, 13, 16, 19"):
        VGG(12)
