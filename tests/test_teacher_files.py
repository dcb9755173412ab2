"""teacher_checkpoint: files of other programs, written here as these write them, and networks written here with their
names, from the papers."""

import argparse
import fractions
import json
import re
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from kdexp.config import naming
from kdexp.config.naming import file_sha256
from kdexp.datasets.batches import Pixels
from kdexp.datasets.digits import digits
from kdexp.errors import UsageError
from kdexp.evaluate import evaluate
from kdexp.experiment.data import Data
from kdexp.experiment.networks import load_teacher_checkpoint
from kdexp.jobs.job import Job
from kdexp.models import timm as of_timm
from kdexp.models import torchvision as of_torchvision
from kdexp.models import wrap
from kdexp.models.foreign import Renormalised, load_weights, read_state
from kdexp.models.resnet import ResNet
from kdexp.models.wrn import WideResNet
from kdexp.teachers import Teachers, teacher_view


def conv3(before, after, stride=1):
    return nn.Conv2d(before, after, 3, stride, padding=1, bias=False)


class PostActivation(nn.Module):
    """He et al. 2016, figure 2, with the names of RepDistiller and mdistiller."""

    def __init__(self, before, after, stride):
        super().__init__()
        self.conv1, self.bn1 = conv3(before, after, stride), nn.BatchNorm2d(after)
        self.conv2, self.bn2 = conv3(after, after), nn.BatchNorm2d(after)
        self.downsample = None
        if stride > 1 or before != after:
            self.downsample = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(shortcut + self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))))


class TheirResNet(nn.Module):
    def __init__(self, depth, widths, classes):
        super().__init__()
        self.conv1, self.bn1 = conv3(3, widths[0]), nn.BatchNorm2d(widths[0])
        for stage in (1, 2, 3):
            steps = [(widths[stage - 1], min(stage, 2)), *[(widths[stage], 1)] * ((depth - 2) // 6 - 1)]
            blocks = [PostActivation(before, widths[stage], stride) for before, stride in steps]
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))
        self.fc = nn.Linear(widths[3], classes)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class TheirResNetA(TheirResNet):
    """With the shortcuts of section 3.3, option A, and the last layer's name of akamaster/pytorch_resnet_cifar10."""

    def __init__(self, depth, widths, classes):
        super().__init__(depth, widths, classes)
        for module in self.modules():
            if getattr(module, "downsample", None) is not None:
                module.downsample = Padded(module.conv1.in_channels, module.conv1.out_channels)
        self.linear = self.fc
        del self.fc

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.linear(x.mean((2, 3)))


class Padded(nn.Module):
    def __init__(self, before, after):
        super().__init__()
        self.before, self.after = before, after

    def forward(self, x):
        size = -(-x.shape[2] // 2)
        out = x.new_zeros(len(x), self.after, size, size)
        for channel in range(self.before):
            for row in range(size):
                out[:, channel + (self.after - self.before) // 2, row] = x[:, channel, 2 * row, ::2]
        return out


class PreActivation(nn.Module):
    """Zagoruyko & Komodakis 2016, figure 1(a) and section 2, with the same programs' names."""

    def __init__(self, before, after, stride):
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(before), conv3(before, after, stride)
        self.bn2, self.conv2 = nn.BatchNorm2d(after), conv3(after, after)
        self.convShortcut = nn.Conv2d(before, after, 1, stride, bias=False) if before != after else None

    def forward(self, x):
        active = F.relu(self.bn1(x))
        shortcut = x if self.convShortcut is None else self.convShortcut(active)
        return shortcut + self.conv2(F.relu(self.bn2(self.conv1(active))))


class TheirWideResNet(nn.Module):
    def __init__(self, depth, factor, classes):
        super().__init__()
        widths = (16, 16 * factor, 32 * factor, 64 * factor)
        self.conv1 = conv3(3, 16)
        for stage in (1, 2, 3):
            steps = [(widths[stage - 1], min(stage, 2)), *[(widths[stage], 1)] * ((depth - 4) // 6 - 1)]
            blocks = [PreActivation(before, widths[stage], stride) for before, stride in steps]
            setattr(self, f"block{stage}", nn.ModuleDict({"layer": nn.Sequential(*blocks)}))
        self.bn1, self.fc = nn.BatchNorm2d(widths[3]), nn.Linear(widths[3], classes)

    def forward(self, x):
        x = self.conv1(x)
        for stage in (self.block1, self.block2, self.block3):
            x = stage["layer"](x)
        return self.fc(F.adaptive_avg_pool2d(F.relu(self.bn1(x)), 1).flatten(1))


class Nested(nn.Module):
    """A user's, with a child called `net` as the wrapped network's own is, around a network of our names."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(conv3(3, 4, 2), nn.BatchNorm2d(4), nn.ReLU())
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))

    def forward(self, x):
        return self.head(self.net(x))


def timm_pair(arch):
    timm = pytest.importorskip("timm")
    return timm.create_model(arch, num_classes=10), of_timm.network(arch, 10, stem="original")


PAIRS = {
    "resnet14": lambda: (TheirResNet(14, (16, 16, 32, 64), 10), ResNet(14, 10)),
    "resnet14a": lambda: (TheirResNetA(14, (16, 16, 32, 64), 10), ResNet(14, 10, shortcut="A")),
    "resnet8x4": lambda: (TheirResNet(8, (32, 64, 128, 256), 10), ResNet(8, 10, (32, 64, 128, 256))),
    "wrn16_1": lambda: (TheirWideResNet(16, 1, 10), WideResNet(16, 1, 10)),
    "wrn16_2": lambda: (TheirWideResNet(16, 2, 10), WideResNet(16, 2, 10)),
    "torchvision": lambda: (
        torchvision.models.squeezenet1_1(num_classes=10),
        of_torchvision.network("squeezenet1_1", 10, stem="original"),
    ),
    "timm": lambda: timm_pair("test_resnet"),
    "wrapped": lambda: (Nested(), wrap(Nested(), {"stage1": "net", "embedding": "net"})),
}


def pair(name):
    """Their network, where every number has been moved from its initial value, and ours."""
    torch.manual_seed(0)
    theirs, ours = PAIRS[name]()
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value in (module.weight.data, module.running_var):
                value.uniform_(0.5, 1.5)
            for value in (module.bias.data, module.running_mean):
                value.normal_(std=0.3)
    return theirs.eval(), ours.eval()


def prefixed(state, prefix):
    return OrderedDict((prefix + key, value) for key, value in state.items())


def repdistiller(network, **more):
    """What train_teacher.py saves: `opt` in the last epoch's file, the accuracy (a tensor) in the others."""
    optimizer = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9)
    sum(parameter.sum() for parameter in network.parameters()).backward()
    with torch.no_grad():
        before = {key: value.clone() for key, value in network.state_dict().items()}
        optimizer.step()
        network.load_state_dict(before)
    return {"model": network.state_dict(), "optimizer": optimizer.state_dict(), **more}


OPT = argparse.Namespace(model="resnet32x4", lr_decay_epochs=[150, 180, 210], learning_rate=0.05, trial=0)
FORMATS = {
    "bare": lambda network: network.state_dict(),
    "under model": lambda network: {"model": network.state_dict()},
    "under state_dict": lambda network: {"epoch": 3, "state_dict": network.state_dict()},
    "under net": lambda network: {"acc": 91.2, "net": network.state_dict()},
    "DataParallel": lambda network: nn.DataParallel(network).state_dict(),
    "DataParallel under state_dict": lambda network: {"state_dict": nn.DataParallel(network).state_dict()},
    "RepDistiller last": lambda network: repdistiller(network, opt=OPT),
    "RepDistiller epoch": lambda network: repdistiller(network, epoch=240, accuracy=torch.tensor([75.61])),
    "mdistiller student_best": lambda network: {"model": network.state_dict()},
    "mdistiller latest": lambda network: {
        "epoch": 240,
        "model": prefixed(network.state_dict(), "module.student."),
        "best_acc": torch.tensor([75.61]),
    },
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("form", FORMATS)
def test_their_files_make_our_network_compute_what_theirs_does(tmp_path, name, form):
    theirs, ours = pair(name)
    torch.save(FORMATS[form](theirs), tmp_path / "x.pt")
    load_weights(ours, tmp_path / "x.pt", name)
    images = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(ours(images).logits, theirs(images), rtol=1e-5, atol=1e-5)
    load_weights(again := PAIRS[name]()[1], tmp_path / "x.pt", name)
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), ours.state_dict().values()))


def test_torchvisions_own_resnet18(tiny, here):
    """As its state dict is saved; a stem that was made small is another layer."""
    words = ("distill=kd", "teacher=torchvision", "model.teacher.arch=resnet18", "dataset.image_size=32")
    torch.save((theirs := torchvision.models.resnet18(num_classes=10).eval()).state_dict(), "x.pt")
    config = tiny(*words, "model.teacher.stem=original", "teacher_checkpoint=x.pt")
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(
        load_teacher_checkpoint(config).eval()(images).logits, theirs(images), rtol=1e-5, atol=1e-5
    )
    assert refused(tiny, None, *words) == (
        "teacher_checkpoint=x.pt does not fit resnet18: conv1.weight is 64x3x7x7 in the file, 64x3x3x3 in the network"
    )


@pytest.mark.parametrize("name", PAIRS)
def test_a_file_of_an_old_torch(tmp_path, name):
    """Before 1.6 not a zip file, before 0.4.1 without num_batches_tracked."""
    theirs, ours = pair(name)
    state = {key: value for key, value in theirs.state_dict().items() if "num_batches" not in key}
    torch.save({"model": state, "opt": OPT}, tmp_path / "x.pth", _use_new_zipfile_serialization=False)
    load_weights(ours, tmp_path / "x.pth", name)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(ours(images).logits, theirs(images), rtol=1e-5, atol=1e-5)


def test_our_own_names_stay(tmp_path):
    """The tables turn no name of ours into another."""
    for make in PAIRS.values():
        ours, again = make()[1], make()[1]
        torch.save(prefixed(ours.state_dict(), "module."), tmp_path / "x.pt")
        load_weights(again, tmp_path / "x.pt", "it")
        assert all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), again.state_dict().values()))


def test_a_network_without_a_table(tmp_path):
    """A user's own network may have none."""
    first, second = nn.Linear(3, 2), nn.Linear(3, 2)
    torch.save({"net": first.state_dict()}, tmp_path / "x.pt")
    load_weights(second, tmp_path / "x.pt", "mine")
    assert torch.equal(first.weight, second.weight)


def refused(tiny, saved, *words):
    """What a user reads for this file."""
    if saved is not None:
        torch.save(saved, "x.pt")
    with pytest.raises(UsageError) as said:
        Job(tiny("distill=kd", "teacher_checkpoint=x.pt", *words))
    assert "\n" not in str(said.value)
    return str(said.value)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_file_of_another_network(tiny, here):
    """The first layer that is another, by its name in the file; and what it looks like."""
    wrn, resnet = TheirWideResNet(16, 2, 10), TheirResNet(20, (16, 16, 32, 64), 10)
    assert refused(tiny, FORMATS["RepDistiller last"](wrn), "teacher=wrn16_4") == (
        "teacher_checkpoint=x.pt does not fit wrn16_4: block1.layer.0.conv1.weight is 32x16x3x3 in the file, "
        "64x16x3x3 in the network. It looks like wrn16_2"
    )
    assert refused(tiny, FORMATS["DataParallel"](resnet), "teacher=resnet8").endswith(
        "does not fit resnet8: module.layer1.1.conv1.weight is 16x16x3x3 in the file, missing in the network. "
        "It looks like resnet20"
    )
    assert refused(tiny, resnet.state_dict(), "teacher=resnet32").endswith(
        "does not fit resnet32: stages.0.3.conv1.weight is missing in the file, 16x16x3x3 in the network. "
        "It looks like resnet20"
    )
    assert refused(tiny, ResNet(20, 10).state_dict(), "teacher=wrn16_1").endswith("It looks like resnet20")
    assert refused(tiny, TheirWideResNet(16, 1, 100).state_dict()).endswith(
        "does not fit wrn16_1: fc.weight is 100x64 in the file, 10x64 in the network"
    )
    assert refused(tiny, {"features.0.weight": torch.zeros(64, 3, 3, 3)}).endswith(
        "does not fit wrn16_1: its layers have different names: features.0.weight, ... in the file, conv.weight, ... in the network"
    )


@pytest.mark.parametrize(
    "saved, message",
    [
        ({}, "x.pt holds no weights, bare or under model, state_dict, net, but dict. Save only the weights: torch"),
        ({"epoch": 3, "acc": 91.2}, "x.pt holds no weights, bare or under .*, but epoch, acc. Save only the weights"),
        ({"model": {"lr": 0.1}}, "x.pt holds no weights, .* but lr. Save"),
        ({0: torch.zeros(3)}, "x.pt holds no weights, .* but 0. Save"),
        (torch.zeros(3), "x.pt holds no weights, .* but Tensor. Save"),
        (OPT, "x.pt holds no weights, .* but Namespace. Save"),
        (
            {"model": WideResNet(16, 1, 10).state_dict(), "extra": fractions.Fraction(1, 2)},
            r"x.pt is not a file that torch.load\(weights_only=True\) can read \(it holds a pickled fractions.Fraction\). Save",
        ),
        (
            argparse.Namespace(inside=fractions.Fraction(1, 2)),
            r"can read \(it holds a pickled fractions.Fraction\). Save",
        ),
    ],
    ids=["empty", "no weights", "no tensors", "numbered", "tensor", "options", "class", "class within options"],
)
def test_a_file_without_weights(tiny, here, saved, message):
    assert re.search("^teacher_checkpoint=" * message.startswith("x.pt") + message, refused(tiny, saved))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"not weights at all"])
def test_a_file_that_cannot_be_read(tiny, here, content):
    Path("x.pt").write_bytes(content)
    assert re.search(
        r"^teacher_checkpoint=x.pt is not a file that torch.load\(.*\) can read \(\w+\). Save", refused(tiny, None)
    )


def test_options_are_allowed_for_this_load_alone(tmp_path):
    torch.save({"opt": OPT, "net": nn.Linear(1, 1).state_dict()}, tmp_path / "x.pt")
    assert set(read_state(tmp_path / "x.pt")) == {"weight", "bias"}
    assert argparse.Namespace not in torch.serialization.get_safe_globals()
    with pytest.raises(Exception, match="argparse.Namespace"):
        torch.load(tmp_path / "x.pt", weights_only=True)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("mode", ["eval", "batch_stats"])
def test_constants_of_normalisation(name, mode):
    """Wrapped, a network gives for images normalised with our constants what it gives bare for images normalised with
    its own; frozen, copied and asked for its taps as a network is."""
    _, network = pair(name)
    ours, its = ([0.5, 0.4, 0.3], [0.2, 0.3, 0.25]), ([0.1, 0.2, 0.0], [1.0, 0.5, 0.7])
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    images[:, :, :4] = 0  # as padding is
    view = teacher_view(Renormalised(network, ours, its), mode)
    found, wanted = view(Pixels(*ours).normalise(images)), teacher_view(network, mode)(Pixels(*its).normalise(images))
    torch.testing.assert_close(found.logits, wanted.logits, rtol=1e-4, atol=1e-4)
    for tap, value in wanted.features.items():
        torch.testing.assert_close(found.features[tap], value, rtol=1e-4, atol=1e-4)
    assert view.num_classes == 10 and view.taps.keys() == wanted.features.keys()
    assert not any(parameter.requires_grad for parameter in view.parameters())


ONE = [[0.5, 0.5, 0.5], [0.25, 0.25, 0.25]]


@pytest.mark.parametrize(
    "words, message",
    [
        (("teacher_normalize=[[0,0,0],[1,1,1]]",), "only for a teacher of your own; add teacher_checkpoint=FILE"),
        (("teacher_checkpoint=x.pt", "teacher_normalize=[[0,0],[1,1,1]]"), r"=\[\[0, 0\],.*: must be \[\[mean,"),
        (("teacher_checkpoint=x.pt", "teacher_normalize=[[0,0,0]]"), "must be .*each std greater than 0"),
        (("teacher_checkpoint=x.pt", "teacher_normalize=[]"), "must be .*each std greater than 0"),
        (("teacher_checkpoint=x.pt", "teacher_normalize=[[0,0,0],[1,0,1]]"), "each std greater than 0"),
        (("teacher_checkpoint=x.pt", "teacher_normalize=[[nan,0,0],[1,1,1]]"), "must be"),
        (("teacher_checkpoint=x.pt", "teacher_normalize=[[a,0,0],[1,1,1]]"), "must be"),
        (("teacher_checkpoint=x.pt", "teacher_normalize=cifar"), "teacher_normalize=cifar: must be"),
        (("teacher_checkpoint=x.pt", "teacher_normalize={a: 1}"), "must be"),
    ],
)
def test_constants_without_sense(tiny, words, message):
    with pytest.raises(UsageError, match=message):
        Job(tiny("distill=kd", *words))


def test_names_and_fingerprints(tiny, here):
    """The constants are part of both, but for label-only training and at their default; and they make another
    teacher."""
    torch.save(TheirWideResNet(16, 1, 10).state_dict(), "x.pt")
    torch.save(TheirWideResNet(16, 2, 10).state_dict(), "y.pt")
    words = ("distill=kd", "teacher_checkpoint=x.pt")
    plain, other = Job(tiny(*words)), Job(tiny(*words, f"teacher_normalize={ONE}"))
    assert plain.record.folder != other.record.folder and plain.fingerprint != other.fingerprint
    wider = Job(tiny("distill=kd", "teacher_checkpoint=y.pt", "teacher=wrn16_2"))
    assert len({plain.teacher_keys, other.teacher_keys, wider.teacher_keys}) == 3
    old = {key: value for key, value in plain.config.items() if key != "teacher_normalize"}
    assert naming.fingerprint(old) == plain.fingerprint
    assert tiny("distill=none", *words[1:], f"teacher_normalize={ONE}") == tiny("distill=none")


def test_a_run_with_a_teacher_from_elsewhere(run, tmp_path):
    """Trained here with other constants and saved as RepDistiller does; the accuracy is the one it has there, printed
    before the students train. In one command with other constants it is another teacher."""
    torch.manual_seed(0)
    theirs, (train, test) = TheirWideResNet(16, 1, 10), digits()
    optimizer, pixels = torch.optim.Adam(theirs.parameters(), 0.01), Pixels(*ONE)
    for order in (torch.randperm(600).split(50) for _ in range(3)):
        for part in order:
            F.cross_entropy(theirs(pixels.normalise(train.images[part])), train.labels[part]).backward()
            optimizer.step()
            optimizer.zero_grad()
    torch.save({"opt": OPT, "model": theirs.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "x.pth")
    with torch.no_grad():
        guessed = theirs.eval()(pixels.normalise(test.images[:50])).argmax(1)
    there = 100 * (guessed == test.labels[:50]).float().mean().item()
    words = ("distill=none,kd,od", f"teacher_checkpoint={tmp_path}/x.pth", "epochs=1")
    done = run("-m", *words, f"teacher_normalize={ONE},[[0.9,0.9,0.9],[2,2,2]]".replace(" ", ""), check=0)
    assert there > 60 and f"x.pth   test {there:.2f} %" in done.stderr, done.stderr
    assert done.stderr.count("x.pth   test ") == 2 and "is missing and trained first" not in done.stderr
    results = [
        json.loads(file.read_text()) for file in (tmp_path / "outputs/digits/wrn16_1-resnet8").rglob("result.json")
    ]
    found = sorted((result["distill"], round(result["teacher_test_acc"], 4)) for result in results)
    assert [acc for _, acc in found].count(round(there, 4)) == 2 and len(set(found)) == 4, found
    assert len([*(tmp_path / "outputs/digits/resnet8").rglob("result.json")]) == 1


def test_a_file_that_does_not_fit_ends_a_sweep_before_it_starts(run, tmp_path):
    torch.save(TheirWideResNet(16, 2, 10).state_dict(), tmp_path / "x.pth")
    done = run("-m", "distill=none,kd", "seed=1,2", f"teacher_checkpoint={tmp_path}/x.pth", check=1)
    (line,) = done.stderr.splitlines()
    assert "x.pth does not fit wrn16_1: block1.layer.0" in line and line.endswith("It looks like wrn16_2")
    assert not (tmp_path / "outputs").exists()


def test_the_same_logits_on_the_data_of_a_run(tiny, here):
    """From the file to the score, as a run takes it: the group's teacher on the run's own batches."""
    theirs, _ = pair("wrn16_1")
    torch.save(theirs.state_dict(), "x.pt")
    job = Job(tiny("distill=kd", "teacher_checkpoint=x.pt", f"teacher_normalize={ONE}"))
    teachers = Teachers()
    ((network, score, origin, _),) = teachers.of(job, None, None)
    assert origin["sha256"] == file_sha256("x.pt") and origin["test_acc"] == score.acc
    data: Data = teachers.data_of(job)
    with torch.no_grad():
        found = network(data.pixels.normalise(data.test.images)).logits
        torch.testing.assert_close(found, theirs(Pixels(*ONE).normalise(data.test.images)), rtol=1e-4, atol=1e-4)
    assert score.acc == evaluate(network, data.test, data.pixels).acc
