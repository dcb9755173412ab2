"""A user's own method, network and data set in a package; networks of other libraries; what describe=true says."""

import copy
import json
import os
import re
import subprocess
import sys

import pytest
import torch
from torch import nn

from kdexp import ROOT
from kdexp.command.describe import multiply_adds
from kdexp.config.targets import ShapesOnly
from kdexp.models import Tap, wrap
from kdexp.models.resnet import ResNet
from kdexp.models.torchvision import network

SECTION = re.search(r"\n## Bring your own\n(.*)", (ROOT / "kdexp/README.md").read_text(), re.S)[1]
MYLAB = {
    "nets.py": """
from torch import nn
from kdexp.models import wrap

def small(num_classes, image_size, width=8):
    layers = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(width, 16, 3), nn.ReLU())
    net = nn.Sequential(layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(16, num_classes))
    return wrap(net, {"stage1": "0.1", "stage2": "0.3", "stage3": "0.4", "embedding": "1"}, image_size)
""",
    "conf/model/small.yaml": """
name: small${.width}
_target_: mylab.nets.small
width: 8
num_classes: ${dataset.num_classes}
image_size: ${dataset.image_size}
""",
    "data.py": """
import torch
from kdexp.datasets import Images

def stripes(root):
    draws = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 2, (120,), generator=draws)
    images = torch.randint(0, 90, (120, 3, 8, 8), generator=draws, dtype=torch.uint8)
    images[labels == 0, :, ::2] += 150
    images[labels == 1, :, :, ::2] += 150
    return Images(images[:80], labels[:80]), Images(images[80:], labels[80:])
""",
    # a method as those of version 0.1 were written
    "cosines.py": """
import torch.nn.functional as F
from kdexp.distill.base import DistillMethod, full_precision

@full_precision
def cosine_loss(student, teacher):
    s, t = (F.normalize(e) @ F.normalize(e).T for e in (student, teacher))
    return F.mse_loss(s, t)

class Cosines(DistillMethod):
    reads = ("embedding",)

    def forward(self, student, teacher):
        return cosine_loss(student.features["embedding"], teacher.features["embedding"])
""",
    "conf/distill/cosines.yaml": """
name: cosines
_target_: mylab.cosines.Cosines
label: Cosines
note: ""
weight: 10
""",
    "conf/dataset/stripes.yaml": """
name: stripes
_target_: mylab.data.stripes
num_classes: 2
image_size: 8
mean: [0.47, 0.47, 0.47]
std: [0.31, 0.31, 0.31]
padding: 1
flip: true
""",
}


@pytest.fixture
def mylab(tmp_path):
    """The package of kdexp/README.md's walk-through, with a network, a data set and one more method."""
    written = dict(re.findall(r"`mylab/([\w/.]+)`:\n\n```\w+\n(.*?)```", SECTION, re.S))
    assert sorted(written) == ["conf/distill/trust.yaml", "trust.py"]
    for name, text in {**written, **MYLAB}.items():
        file = tmp_path / "mylab" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.lstrip())
    return tmp_path


def test_readme_walk_through(mylab, run):
    """Its commands, on a small run; with our tests."""
    lines = re.findall(r"^python .*", SECTION, re.M)
    described, swept = (run(*line.split()[2:], check=0) for line in lines[:2])
    assert re.search(r"Trust +1 +logits +-", described.stdout)
    assert re.search(r"Trust +\d+\.\d\d +\d+\.\d\d +3", swept.stdout)
    environment = os.environ | {"PYTHONPATH": str(mylab)}
    tested = subprocess.run(
        [sys.executable, *lines[2].split()[1:]], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert re.search(r"\d\d passed", tested.stdout) and tested.returncode == 0, tested.stdout


def test_own_network_method_and_data_set_in_a_sweep(mylab, run):
    words = ("plugins=[mylab]", "dataset=stripes", "dataset.limit=null", "dataset.limit_test=null", "student=small")
    done = run("-m", *words, "distill=none,kd,cosines,trust", "epochs=8", check=0)
    assert "stripes   wrn16_1" in done.stdout and "-> small8" in done.stdout
    results = [json.loads(file.read_text()) for file in mylab.glob("outputs/stripes/*/*/*/seed1/result.json")]
    assert sorted(one["distill"] for one in results) == ["cosines", "kd", "none", "none", "trust"]
    alone = run("distill=kd", *words, "epochs=8", f"paths.outputs={mylab}/alone", check=0)
    weights = [json.loads(file.read_text())["student_sha256"] for file in mylab.glob("*/stripes/*/kd/*/*/result.json")]
    assert len(weights) == 2 and len(set(weights)) == 1, alone.stderr  # dropout draws the same in a group and alone
    again = run("-m", *words, "distill=none,kd,cosines,trust", "epochs=8", check=0)
    assert "4 done before, 0 to run" in again.stderr
    small = run("-m", *words, "distill=nst", "model.student.width=4,8", "epochs=8", check=0)
    assert "wrn16_1-small4" in small.stderr
    refused = run("plugins=mylab", "dataset=stripes", "student=small", "distill=od")
    assert refused.returncode == 1 and refused.stderr.count("\n") == 1
    assert "needs the tap stage1_pre, which small8 does not have" in refused.stderr


def test_own_network_takes_the_file_of_the_network_inside(mylab, run):
    layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3), nn.ReLU())
    inside = nn.Sequential(layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(16, 10))
    torch.save({"state_dict": nn.DataParallel(inside).state_dict()}, mylab / "mine.pt")
    torch.save({"classifier.weight": torch.zeros(10, 16)}, mylab / "other.pt")
    words = ("plugins=mylab", "distill=kd", "teacher=small", "epochs=1")
    done = run(*words, f"teacher_checkpoint={mylab}/mine.pt", check=0)
    assert re.search(r"mine.pt   test \d+\.\d\d %", done.stderr) and "small8 -> resnet8" in done.stderr
    refused = run(*words, f"teacher_checkpoint={mylab}/other.pt", check=1)
    assert refused.stderr.strip() == (
        f"teacher_checkpoint={mylab}/other.pt does not fit small8: "
        "its layers have different names: classifier.weight, ... in the file, net.0.0.weight, ... in the network"
    )


@pytest.mark.parametrize(
    "package, message",
    [
        ("mylabb", "plugins=mylabb: there is no package of that name"),
        ("json", "distill=mine: no such method"),
        ("taken", "kd.yaml: there is an option of that name already"),
        ("broken", "_target_=broken.mine.Mine: "),
    ],
)
def test_a_package_that_cannot_be_used(run, tmp_path, package, message):
    (tmp_path / "taken" / "conf" / "distill").mkdir(parents=True)
    (tmp_path / "taken" / "conf" / "distill" / "kd.yaml").write_text("name: kd")
    (tmp_path / "broken" / "conf" / "distill").mkdir(parents=True)
    (tmp_path / "broken" / "conf" / "distill" / "mine.yaml").write_text(
        "name: mine\n_target_: broken.mine.Mine\nweight: 1\n"
    )
    (tmp_path / "broken" / "mine.py").write_text("raise AssertionError")
    done = run(f"plugins={package}", "distill=mine")
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr


class Plain(nn.Module):
    """conv, BatchNorm, in-place ReLU, pool, linear: what `wrap` is given, and what it should see."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.relu = nn.Conv2d(3, 5, 3, stride=2), nn.BatchNorm2d(5), nn.ReLU(inplace=True)
        self.unused, self.pool, self.fc = nn.Linear(1, 1), nn.AdaptiveAvgPool2d(1), nn.Linear(5, 7)

    def forward(self, x):
        return self.fc(self.pool(self.relu(self.bn(self.conv(x)))).flatten(1))


def test_wrap_gives_outputs_and_taps():
    net = Plain()
    wrapped = wrap(net, {"stage1": "relu", "stage1_pre": "bn", "embedding": "pool"}, image_size=9)
    assert wrapped.num_classes == 7 and not net.bn.num_batches_tracked
    assert wrapped.taps == {"stage1": (5, 4, None), "stage1_pre": (5, 4, net.bn), "embedding": (5, 1, None)}
    assert [type(tap) is Tap for tap in wrapped.taps.values()] == [True, False, False]  # only a ReLU's is unsigned
    twin, images = copy.deepcopy(wrapped), torch.randn(2, 3, 9, 9)
    for one in (wrapped.eval(), twin.eval()):
        logits, features = one(images)
        before = one.net.bn(one.net.conv(images))
        assert torch.equal(features["stage1_pre"], before) and torch.equal(features["stage1"], before.relu())
        assert torch.equal(features["embedding"], before.relu().mean((2, 3)))
        assert torch.equal(logits, one.net.fc(features["embedding"]))
    compiled, eager = torch.compile(wrapped, backend="aot_eager")(images), wrapped(images)
    assert compiled.features.keys() == eager.features.keys()
    assert all(torch.allclose(compiled.features[tap], eager.features[tap]) for tap in eager.features)


class InPlace(Plain):
    def forward(self, x):
        x = self.conv(x)
        x += 1
        return self.fc(self.pool(x).flatten(1))


@pytest.mark.parametrize(
    "net, tap, message",
    [
        (Plain, "layer1", "no such module. The network has: conv, bn"),
        (Plain, "unused", "the module does not run"),
        (InPlace, "conv", "changes its output in place"),
    ],
)
def test_a_tap_that_cannot_be_had(net, tap, message):
    with pytest.raises(ValueError, match=message):
        wrap(net(), {"stage1": tap})


@pytest.mark.parametrize("arch", ["mobilenet_v2", "resnet18", "shufflenet_v2_x0_5", "vgg11_bn", "densenet121"])
def test_networks_of_torchvision_on_small_images(arch):
    """At 32x32 they keep maps to distil at three sizes, in training too."""
    with torch.device("meta"), ShapesOnly():
        net = network(arch, num_classes=10, image_size=32)
        output = net.train()(torch.randn(2, 3, 32, 32))
        output.logits.sum().backward()
    sizes = [net.taps[f"stage{number}"].size for number in (1, 2, 3)]
    assert sizes == [4 * sizes[2], 2 * sizes[2], sizes[2]] and sizes[2] >= 2 and output.logits.shape == (2, 10)
    for tap, value in net.taps.items():
        assert (
            output.features[tap].shape[1:] == (value.channels, value.size, value.size)[: 1 if tap == "embedding" else 3]
        )


def test_four_methods_distil_to_mobilenet_v2(run):
    words = ("student=torchvision", "model.student.arch=mobilenet_v2", "dataset.limit=32", "epochs=1", "batch_size=16")
    done = run("-m", "distill=kd,rkd,sp,at", *words, "dataset=digits32", check=0)
    assert "4 of 4 done" in done.stderr and "wrn16_1-mobilenet_v2" in done.stderr


def test_describe(run, tmp_path):
    done = run("describe=true", "teacher=resnet32x4", "student=torchvision", "dataset=cifar100", check=0)
    assert re.search(r"parameters +7,433,860 +2,351,972", done.stdout)
    assert re.search(r"stage3 +256 x 8 x 8 +1280 x 2 x 2", done.stdout)
    assert re.search(r"OD +not possible, see below", done.stdout) and "od: needs the tap stage1_pre" in done.stdout
    assert re.search(r"AT   stage3: the teacher's 8x8 map is average-pooled to 2x2", done.stdout)
    assert not (tmp_path / "outputs").exists()


def test_multiply_adds_by_hand():
    """ResNet-8 at 32x32: nine convolutions of a known size, two of them shortcuts, and a linear layer."""
    stage = lambda before, width, size: size * size * (9 * before * width + 9 * width * width)
    shortcuts = 16 * 16 * 16 * 32 + 8 * 8 * 32 * 64
    expected = 32 * 32 * 27 * 16 + stage(16, 16, 32) + stage(16, 32, 16) + stage(32, 64, 8) + shortcuts + 64 * 10
    assert multiply_adds(ResNet(8, 10), 32) == expected
