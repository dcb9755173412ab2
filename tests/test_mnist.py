"""MNIST, images of one channel, and networks of fully connected layers."""

import hashlib
import json
import struct

import numpy as np
import pytest
import torch
from conftest import NETWORKS
from hypothesis import given
from hypothesis import strategies as some
from test_train import Trial, equal
from torch import nn

import kdexp
from kdexp.augment.operations import OPERATIONS, apply
from kdexp.command.evaluate import measure
from kdexp.command.export import export
from kdexp.config import naming
from kdexp.config.targets import ShapesOnly
from kdexp.datasets import DatasetError, mnist
from kdexp.datasets.batches import Pixels
from kdexp.errors import UsageError
from kdexp.experiment.data import load_data
from kdexp.experiment.networks import build_network
from kdexp.jobs.job import Job
from kdexp.models.mlp import MLP

GRAY = {
    "data.py": """
from kdexp.datasets import Images
from kdexp.datasets.digits import digits

def gray(root):
    return tuple(Images(part.images[:, :1].contiguous(), part.labels) for part in digits())
""",
    "conf/dataset/gray.yaml": """
name: gray
_target_: graylab.data.gray
num_classes: 10
image_size: 8
channels: 1
mean: [0.3051]
std: [0.3755]
padding: 1
flip: false
""",
}


@pytest.fixture
def graylab(tmp_path):
    """A package with the digits in one channel."""
    for name, text in GRAY.items():
        file = tmp_path / "graylab" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.lstrip())
    return tmp_path


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A few images in the original file format, with their checksums where kdexp keeps the original's."""
    rng, folder, written = np.random.default_rng(0), tmp_path / "MNIST" / "raw", {}
    folder.mkdir(parents=True)
    for part, count in (("train", 30), ("t10k", 20)):
        images, labels = rng.integers(0, 256, (count, 28, 28), np.uint8), rng.integers(0, 10, count, np.uint8)
        for name, magic, array in ((f"{part}-images-idx3", 2051, images), (f"{part}-labels-idx1", 2049, labels)):
            content = struct.pack(f">{1 + array.ndim}i", magic, *array.shape) + array.tobytes()
            (folder / f"{name}-ubyte").write_bytes(content)
            monkeypatch.setitem(mnist.FILES, f"{name}-ubyte", hashlib.md5(content).hexdigest())
        written[part] = images, labels
    monkeypatch.setattr("torchvision.datasets.MNIST._check_exists", lambda self: True)
    return tmp_path, written


def test_mnist_is_read_from_the_original_files(files):
    root, written = files
    for split, (images, labels) in zip(mnist.mnist(root), written.values()):
        assert split.images.dtype == torch.uint8 and np.array_equal(split.images.numpy(), images[:, None])
        assert split.labels.dtype == torch.int64 and split.labels.tolist() == labels.tolist()


def test_a_damaged_file_is_named_and_nothing_is_made_without_a_network(files, tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no connection")

    path = files[0] / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-1] + b"\x0b")
    with pytest.raises(DatasetError, match="t10k-labels-idx1-ubyte is corrupt"):
        mnist.mnist(files[0])
    monkeypatch.setattr("urllib.request.urlopen", offline)
    with pytest.raises(DatasetError, match="cannot be downloaded from here.*https://.*mnist.*dataset=digits"):
        mnist.mnist(tmp_path / "elsewhere")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_reads_one_channel(hydra, name):
    config = hydra("dataset=mnist", f"student={name}", "distill=none")
    with torch.device("meta"), ShapesOnly():
        network = build_network(config["model"]["student"], config["plugins"])
        assert network(torch.empty(2, 1, 28, 28)).logits.shape == (2, 10)


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_on_one_channel(name):
    """As on three equal ones; gray levels may be rounded down, as the weights of red, green and blue add up to 0.9999."""
    torch.manual_seed(0)
    images, amounts = torch.randint(0, 256, (20, 1, 9, 9), dtype=torch.uint8), torch.rand(20)
    which = torch.full((20,), list(OPERATIONS).index(name))
    amounts = amounts * {"Posterize": 8}.get(name, 1)
    one, three = (apply(given, which, amounts) for given in (images, images.expand(-1, 3, -1, -1)))
    assert one.shape == images.shape and (one.int() - three[:, :1].int()).abs().max() <= (name in ("Color", "Contrast"))


@pytest.mark.parametrize("word", ["dataset.channels=1", "dataset.std=[0.5]", "teacher_normalize=[[0],[1]]"])
def test_as_many_constants_as_channels(hydra, tmp_path, word):
    torch.save({}, tmp_path / "file.pt")
    with pytest.raises(UsageError, match="must be one number for each of the|must be .*mean,mean,mean"):
        Job(hydra(f"teacher_checkpoint={tmp_path}/file.pt", word))


def test_images_of_other_channels_are_refused(hydra):
    config = hydra("dataset=digits", "dataset.channels=1", "dataset.mean=[0.3]", "dataset.std=[0.4]")
    with pytest.raises(UsageError, match="and must be \\(N, 1, 8, 8\\)"):
        load_data(config, torch.device("cpu"))
    digits = load_data(hydra("dataset=digits"), torch.device("cpu")).test
    with pytest.raises(UsageError, match="8 pixels, 3 channels and 10 classes; the network expects 8, 1 and 10"):
        measure(MLP((4,), image_size=8), config, digits)


def test_runs_on_one_channel(graylab, run):
    """From training to every tool that sees images; the limit on weights holds in what is saved."""
    words = ("plugins=[graylab]", "dataset=gray", "student=mlp", "model.student.hidden=[24,16]", "epochs=3")
    limit = ("model.student.max_norm=0.5", "model.student.dropout=0.2")
    run("-m", *words, *limit, "distill=none,kd,rkd", "augment=rand", "teacher=resnet8", check=0)
    refused = run(*words, *limit, "distill=nst", "teacher=resnet8", check=1)
    assert (
        "nst: needs the tap stage1, which mlp24_16drop0_0.2norm0.5 does not have. It has: embedding" in refused.stderr
    )
    folders = sorted(graylab.glob("outputs/gray/*mlp*/*/*/seed1"))
    assert sorted(folder.parts[-3] for folder in folders) == ["kd", "none", "rkd"]
    described = run(*words, "teacher=resnet8", "describe=true", check=0)
    assert "multiply-adds, 8x8" in described.stdout and f"{8 * 8 * 24 + 24 * 16 + 16 * 10:,}" in described.stdout
    for folder in folders:
        network = kdexp.load(folder)
        assert all(layer.weight.norm(dim=1).max() <= 0.5 * (1 + 1e-6) for layer in network.layers)
        assert "logits match" in export(folder, folder / "out", ("pt",))[0]
        assert json.loads((folder / "result.json").read_text())["params"] == sum(
            p.numel() for p in network.parameters()
        )


def written_out(network, images):
    """The equations, unit by unit."""
    x = images.flatten(1)
    for layer in network.layers:
        units = [(x * weights).sum(1) + bias for weights, bias in zip(layer.weight, layer.bias)]
        x = torch.stack(units, 1).clamp(min=0)
    return x, x @ network.fc.weight.T + network.fc.bias


def test_mlp_is_what_it_says():
    torch.manual_seed(0)
    network = MLP((7, 5), 4, image_size=3, in_channels=2, input_dropout=0.5, dropout=0.5)
    images = torch.randn(6, 2, 3, 3)
    output, (hidden, logits) = network.eval()(images), written_out(network, images)
    torch.testing.assert_close(output.logits, logits)
    torch.testing.assert_close(output.features["embedding"], hidden)
    assert network.taps["embedding"].channels == 5 and not torch.equal(network.train()(images).logits, logits)


@given(some.floats(0.01, 3), some.integers(0, 100))
def test_the_limit_scales_only_what_is_longer(limit, seed):
    torch.manual_seed(seed)
    network = MLP((6,), 4, image_size=3, max_norm=limit)
    nn.init.normal_(network.layers[0].weight, std=0.3)
    network.layers[0].weight.data[0] = 0
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network.after_step()
    for old, new in zip(before["layers.0.weight"], network.layers[0].weight):
        expected = old if old.norm() <= limit else old / old.norm() * limit
        torch.testing.assert_close(new, expected)
    assert all(torch.equal(before[key], network.state_dict()[key]) for key in before if key != "layers.0.weight")


@pytest.mark.parametrize("ema", [0, 0.9])
def test_the_limit_holds_after_every_step(tiny, ema):
    """Of the student and, as a mean of such weights, of the averaged one."""
    words = ("student=mlp", "model.student.hidden=[20]", "model.student.max_norm=0.4", f"recipe.ema={ema}")
    trial = Trial([tiny("distill=none", *words, "recipe.lr=0.5")], MLP((4,), image_size=8, in_channels=3))
    (learner,), norms = trial.learners, []

    def note():
        norms.extend(net.layers[0].weight.norm(dim=1).max().item() for net in (learner.student, learner.scored))

    trial.train(after_step=note)
    assert len(norms) == 2 * 8 and max(norms) == pytest.approx(0.4, rel=1e-6)


def test_together_as_alone_with_dropout(tiny):
    """Bit for bit, limit and dropout included."""
    teacher = MLP((30,), image_size=8, in_channels=3).eval()
    words = ("student=mlp", "model.student.hidden=[20]", "model.student.max_norm=0.4", "model.student.dropout=0.3")
    configs = [tiny(f"distill={name}", *words) for name in ("none", "kd", "rkd")]
    _, together = Trial(configs, teacher).train()
    assert all(equal(Trial([one], teacher).train()[1][0], weights) for one, weights in zip(configs, together))


@pytest.mark.parametrize(
    "words, name",
    [
        ((), "mlp800_800"),
        (("hidden=[30]",), "mlp30"),
        (("input_dropout=0.2", "dropout=0.5", "max_norm=3.873"), "mlp800_800drop0.2_0.5norm3.873"),
        (("dropout=0.5",), "mlp800_800drop0_0.5"),
    ],
)
def test_the_name_of_an_mlp_tells_its_settings(hydra, words, name):
    assert hydra("student=mlp", *(f"model.student.{word}" for word in words))["model"]["student"]["name"] == name


@pytest.mark.parametrize("word", ["hidden=[]", "hidden=[8,0]", "dropout=1", "input_dropout=-0.1", "max_norm=-1"])
def test_an_mlp_that_cannot_be(hydra, word):
    with pytest.raises(UsageError, match=word.partition("=")[0]):
        Job(hydra("dataset=mnist", "student=mlp", "distill=none", f"model.student.{word}"))


def test_pixels_of_one_channel():
    images = torch.randint(256, (2, 1, 3, 3), dtype=torch.uint8)
    torch.testing.assert_close(Pixels([0.1], [0.5]).normalise(images), (images / 255 - 0.1) / 0.5)


def test_records_from_before_there_were_channels(hydra):
    """Their config.yaml has no dataset.channels: they can be scored again, and have the same teacher."""
    config = hydra("dataset=digits", "teacher=resnet8", "student=resnet8")
    older = config | {"dataset": {key: value for key, value in config["dataset"].items() if key != "channels"}}
    del older["omit"]
    assert naming.fingerprint(older) == naming.fingerprint(config)
    assert measure(MLP((4,), image_size=8, in_channels=3), older, load_data(config, torch.device("cpu")).test)
