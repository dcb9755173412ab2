import copy
import csv
import pickle
from pathlib import Path

import pytest
import torch
from conftest import NETWORKS
from torch import nn

from kdexp.compute.machine import to_device
from kdexp.config.targets import ShapesOnly
from kdexp.experiment.networks import build_network
from kdexp.models import Wrapped, count_parameters
from kdexp.models.resnet import ResNet
from kdexp.models.shufflenetv2 import ShuffleNetV2
from kdexp.models.wrn import WideResNet

PUBLISHED = list(csv.DictReader(open(Path(__file__).parent / "data" / "param_counts.csv")))
TAPS = {"stem", "stage1", "stage2", "stage3", "stage1_pre", "stage2_pre", "stage3_pre", "embedding"}


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: f"{row['network']}-{row['num_classes']}")
def test_parameter_counts(hydra, row):
    """The counts of the public implementations, for every network they name."""
    dataset = {"10": "cifar10", "100": "cifar100"}[row["num_classes"]]
    config = hydra(f"dataset={dataset}", f"student={row['network']}")
    assert config["model"]["student"]["name"] == row["network"]
    with torch.device("meta"), ShapesOnly():
        assert count_parameters(build_network(config["model"]["student"])) == int(row["params"])


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network(hydra, name):
    """Builds from its file; every tap is announced, computed, and a BatchNorm runs once per forward."""
    config = hydra("dataset=cifar100", f"student={name}", "distill=none")
    network = build_network(config["model"]["student"], config["plugins"]).train()
    output = network(torch.randn(2, 3, 32, 32))
    assert output.logits.shape == (2, 100)
    assert set(network.taps) == set(output.features)
    assert set(network.taps) == TAPS or not isinstance(network, (ResNet, WideResNet))
    for tap, value in network.taps.items():
        expected = (2, value.channels) if tap == "embedding" else (2, value.channels, value.size, value.size)
        assert output.features[tap].shape == expected
        assert value.signed or output.features[tap].min() >= 0
        normed = isinstance(value.norm, nn.BatchNorm2d)
        assert tap.endswith("_pre") == normed or isinstance(network, (Wrapped, ShuffleNetV2))
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(int(norm.num_batches_tracked) == 1 for norm in norms)


@pytest.mark.parametrize("network", [ResNet(14, 10), WideResNet(16, 2, 10)], ids=["resnet", "wrn"])
def test_pre_taps_are_before_the_relu(network):
    """ResNet: the stage's output is the ReLU of its *_pre tap. WRN: *_pre is the next BatchNorm of the raw stage
    output."""
    output = network.eval()(torch.randn(3, 3, 32, 32))
    for stage in ("stage1", "stage2", "stage3"):
        before, after, norm = output.features[f"{stage}_pre"], output.features[stage], network.taps[f"{stage}_pre"].norm
        assert torch.equal(after, before.relu()) if isinstance(network, ResNet) else torch.equal(before, norm(after))
    assert torch.allclose(output.features["embedding"], output.features["stage3_pre"].relu().mean((2, 3)), atol=1e-6)


def test_wrn_is_pre_activation():
    """Against a block written out from the paper: the shortcut of a block that changes shape reads the activated
    input."""
    torch.manual_seed(0)
    network = WideResNet(10, 2, 10).eval()
    x = network.conv(images := torch.randn(2, 3, 32, 32))
    for stage in network.stages:
        for block in stage:
            active = block.bn1(x).relu()
            x = block.conv2(block.bn2(block.conv1(active)).relu()) + block.shortcut(active)
    logits = network.fc(network.bn(x).relu().mean((2, 3)))
    assert torch.allclose(network(images).logits, logits, atol=1e-5)


@pytest.mark.parametrize(
    "make, nearest",
    [
        (lambda: ResNet(31), "26 and 32"),
        (lambda: ResNet(2), "8 and 14"),
        (lambda: WideResNet(17), "16 and 22"),
        (lambda: WideResNet(-5), "10"),
        (lambda: ResNet(-40), "8"),
        (lambda: ResNet(8, shortcut="C"), "must be A or B"),
        (lambda: ResNet(8, widths=(32, 16, 32, 64), shortcut="A"), "cannot go from 32 to 16"),
    ],
)
def test_values_that_do_not_fit_say_which_do(make, nearest):
    with pytest.raises(ValueError, match=nearest):
        make()


@pytest.mark.parametrize(
    "overrides, name",
    [
        (("student=resnet", "model.student.depth=26"), "resnet26"),
        (("student=resnet20", "model.student.depth=26"), "resnet26"),
        (("student=resnet32", "model.student.widths=[32,64,128,256]"), "resnet32x4"),
        (("student=resnet8x4",), "resnet8x4"),
        (("student=resnet", "model.student.widths=[16,32,64,128]"), "resnet32w16_32_64_128"),
        (("student=wrn", "model.student.depth=22", "model.student.widen_factor=3"), "wrn22_3"),
        (("student=resnet20", "model.student.shortcut=A"), "resnet20a"),
        (("student=resnet8x4", "model.student.shortcut=A"), "resnet8x4a"),
        (("student=resnet50",), "resnet50"),
        (("student=resnet", "model.student.depth=50"), "resnet50w16_16_32_64"),
        (("student=vgg", "model.student.depth=16"), "vgg16"),
    ],
)
def test_a_name_follows_from_depth_and_width(hydra, overrides, name):
    assert hydra(*overrides)["model"]["student"]["name"] == name


@pytest.mark.parametrize("channels", [1, 4, 15, 16])
def test_placed_on_a_device_a_network_is_the_same_function(channels):
    """Also one whose strided 1x1 convolutions are too narrow for channels_last; and so is a copy of it."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(channels, 8, 1, 2), nn.Conv2d(8, 6, 1, (2, 1), groups=2), nn.Conv2d(6, 4, 3, 2))
    images = torch.randn(2, channels, 18, 18)
    expected = copy.deepcopy(layers)(images)
    placed = to_device(to_device(layers, torch.device("cpu")), torch.device("cpu"))
    for network in (placed, copy.deepcopy(placed), pickle.loads(pickle.dumps(placed))):
        torch.testing.assert_close(network(images.to(memory_format=torch.channels_last)), expected)
    strided = [one for one in layers if one.kernel_size == (1, 1) and one.stride != (1, 1)]
    assert all(one.in_channels // one.groups >= 16 for one in strided) and len(strided) == (channels == 16)
    assert layers[2].stride == (2, 2)


def test_narrow_students_train(run, tmp_path):
    """In a process of its own: torch writes out of bounds where a 1x1 convolution with a stride reads so few channels."""
    for widths in ("[4,4,8,16]", "[8,8,16,32]"):
        narrow = ("student=resnet", "model.student.depth=8", f"model.student.widths={widths}")
        run("-m", "distill=none,kd,fn,od", *narrow, "epochs=1", "batch_size=64", check=0)
    assert len([*(tmp_path / "outputs").rglob("resnet8w*/*/*/seed1/result.json")]) == 2
