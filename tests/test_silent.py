"""Inputs that once gave a wrong number, or trained something else than was meant, without a word."""

import itertools
import math
import re
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image
from synthetic import record
from torch import nn

from kdexp import ROOT
from kdexp.datasets import DatasetError, Images, download
from kdexp.datasets.checks import check_images
from kdexp.datasets.decoding import decode, list_images
from kdexp.datasets.folder import folder
from kdexp.distill.base import Batch, DistillMethod
from kdexp.errors import UsageError
from kdexp.models.foreign import load_weights
from kdexp.models.resnet import ResNet
from kdexp.record import Record
from kdexp.report import load, summarize
from kdexp.report.showing import labels
from kdexp.teachers import guesses
from kdexp.training.fits import check_batches
from kdexp.training.learner import Learner, LossWeights


def test_a_sweep_over_a_method_s_settings_trains_one_baseline(run, tmp_path):
    done = run("-m", "distill=none,kd", "distill.temperature=1,8", "distill.weight=0.5,0.9", "epochs=1", check=0)
    assert "5 runs" in done.stderr and len([*tmp_path.glob("outputs/digits/resnet8/none/*/seed1")]) == 1
    assert "there are several" not in done.stdout
    own = run("-m", "distill=none,kd", "weight_factor=0.5,1", "dry_run=true", check=0)  # the labels' own weight
    assert "none distill.ce_weight=0.5" in re.sub(r"\s+", " ", own.stdout) and "4 runs" in own.stdout
    alone = run("-m", "distill=none", "distill.weight=1,2", check=1)
    assert alone.stderr.count("\n") == 1 and "distill.weight=2: label-only training has no method" in alone.stderr


def picture(path, color=(200, 30, 30), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 16), color).save(path, **options)


@pytest.fixture
def root(tmp_path):
    """Two classes, four images each, in train/ and test/."""
    for split, name, number in itertools.product(("train", "test"), ("cat", "dog"), range(4)):
        picture(tmp_path / "pictures" / split / name / f"{number}.png", (60 * number, 100, 250 * (name == "dog")))
    return tmp_path / "pictures"


def test_folders_that_nobody_made_are_no_classes(root, tmp_path):
    for place in (
        "train/.ipynb_checkpoints",
        "test/.ipynb_checkpoints",
        "train/__MACOSX",
        "train/cat/@eaDir",
        "train/cat/.trash",
    ):
        picture(root / place / "copy.png")
    picture(root / "train/cat/._0.png")
    (root / "train/cat/again").symlink_to(root / "train/cat")  # a loop
    (root / "train/cat/others").symlink_to(root / "train/dog")  # dogs are no cats
    (root / "train/cat/gone.png").symlink_to(root / "nowhere.png")
    train, test, *remarks = folder(tmp_path / "data", root, 8)
    assert len(train.labels) == len(test.labels) == 8 and train.labels.bincount().tolist() == [4, 4]
    assert "train/cat/gone.png (" in remarks[0] and "train/cat/others" in remarks[1]
    assert len(remarks) == 2 and all(
        f"train/{name}" in remarks[1] for name in ("__MACOSX", "cat/@eaDir", ".ipynb_checkpoints")
    )


def test_a_linked_class_is_read(root, tmp_path):
    (root / "train/dog").rename(tmp_path / "elsewhere")
    (root / "train/dog").symlink_to(tmp_path / "elsewhere")
    assert [label for _, label in list_images(root).files["train"]].count(1) == 4


@pytest.mark.parametrize(
    "move, message",
    [
        (("train", "test"), r"has no folder train/\. Did you mean dataset\.root=.*/inside\? "),
        (
            ("train/cat", "train/dog", "test/cat", "test/dog"),
            "only one class, inside. .*folders: cat, dog. .*belong directly in train/",
        ),
        (("train/dog", "test/dog"), None),
    ],
    ids=["unzipped into a folder", "a folder too deep", "a class removed"],
)
def test_folders_that_cannot_be_meant(root, move, message):
    for place in move:
        inside = (root / place).parent / "inside"
        inside.mkdir(exist_ok=True)
        (root / place).rename(inside / (root / place).name)
    if message is None:
        for split in ("train", "test"):
            (root / split / "inside").rename(root / f"gone_{split}")
        message = "there is only one class, cat. It needs train/CLASS/"
    with pytest.raises(DatasetError, match=message):
        list_images(root)


def test_images_are_decoded_as_a_viewer_shows_them(root, tmp_path):
    pixels = np.zeros((16, 20, 3), np.uint8)
    pixels[:8] = 255  # the upper half is white
    upright, turned = Image.fromarray(pixels), Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    turned.rotate(180).save(root / "train/cat/turned.png", exif=exif)
    upright.save(root / "train/cat/upright.png")
    one, other = (decode(str(root / f"train/cat/{name}.png"), 8) for name in ("turned", "upright"))
    assert one.turned and not other.turned and np.array_equal(one.pixels, other.pixels)
    glass = np.dstack([np.full((16, 20), 77, np.uint8)] * 3 + [np.zeros((16, 20), np.uint8)])
    Image.fromarray(glass).save(root / "train/dog/glass.png")  # 77 is a color that nobody sees
    glass[..., 3] = 255
    Image.fromarray(glass).save(root / "train/dog/solid.png")
    clear, solid = (decode(str(root / f"train/dog/{name}.png"), 8) for name in ("glass", "solid"))
    assert clear.transparent and (clear.pixels == 255).all() and not solid.transparent and (solid.pixels == 77).all()
    *_, first, second = folder(tmp_path / "data", root, 8)
    assert (first, second) == (
        "1 image turned upright, as EXIF data say",
        "1 transparent image put on a white background",
    )


@pytest.mark.slow
def test_a_photograph_of_100_megapixels_is_no_bomb(tmp_path):
    Image.new("1", (10_000, 10_000)).save(tmp_path / "large.png")
    code = f"from kdexp.datasets.decoding import decode; print(decode('{tmp_path}/large.png', 8).pixels.shape)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("(3, 8, 8)\n", "")


def test_a_teacher_with_nan_and_one_that_guesses(run, tmp_path):
    network = ResNet(8, 10, image_size=8)
    state = network.state_dict()
    state["fc.weight" if "fc.weight" in state else [*state][-2]][0, 0] = math.nan
    torch.save(state, tmp_path / "nan.pth")
    with pytest.raises(ValueError, match="holds values that are not finite in .*weight: its training diverged"):
        load_weights(network, tmp_path / "nan.pth", "resnet8")
    assert "no better than guessing among 10 classes" in guesses("resnet8", 13.9, 500, 10)
    assert not guesses("resnet8", 14.1, 500, 10)  # 10 % and three standard errors of 1.34
    said = run("distill=kd", "epochs=1", check=0).stderr
    assert said.count("warning teacher wrn16_1 is right on") == 1
    (log,) = tmp_path.glob("outputs/digits/wrn16_1-resnet8/kd/*/seed1/run.log")
    assert "no better than guessing" in log.read_text()
    assert "guessing" not in run("distill=kd", "epochs=1", "teacher_epoch=0", check=0).stderr


class Late(DistillMethod):
    def forward(self, student, teacher):
        self.connector = getattr(self, "connector", None) or nn.Linear(student.logits.shape[1], 10)
        return (self.connector(student.logits) - teacher.logits).square().mean()


class Listed(DistillMethod):
    def __init__(self, student_taps, teacher_taps):
        super().__init__(student_taps, teacher_taps)
        self.connectors = [nn.Linear(10, 10)]

    def forward(self, student, teacher):
        return (self.connectors[0](student.logits) - teacher.logits).square().mean()


@pytest.mark.parametrize("kind, name", [(Late, "connector.weight"), (Listed, "10x10")])
def test_layers_that_would_never_be_trained(kind, name):
    student, teacher = ResNet(8, 10, image_size=8), ResNet(8, 10, image_size=8)
    method = kind(student.taps, teacher.taps)
    optimizer = torch.optim.SGD([*student.parameters(), *method.parameters()], 0.1)
    images = torch.randn(4, 3, 8, 8)
    batch = Batch(torch.tensor([0, 1, 2, 3]), torch.arange(4), 1.0)
    with torch.no_grad():
        output = teacher(images)
    with pytest.raises(
        ValueError, match=f"{kind.__name__}: .*{name}.* would never be trained. Make layers in the constructor"
    ):
        Learner(student, optimizer, method, LossWeights(method=1.0)).learn(images, batch, output)


@pytest.mark.parametrize(
    "words, message",
    [
        (["batch_size=500", "dataset.limit=200"], "there are only 200 training images.*at most batch_size=200"),
        (
            ["batch_size=16", "dataset.limit=65", "student=narrow"],
            "one is left for the last batch, and narrow .*batch_size=15 or batch_size=17",
        ),
        (["batch_size=16", "dataset.limit=65"], None),  # resnet8 normalizes maps of 2x2
        (["batch_size=16", "dataset.limit=66", "student=narrow"], None),
    ],
)
def test_batches_that_cannot_be_trained_on(hydra, words, message, monkeypatch):
    narrow = "student=narrow" in words
    config = hydra(
        "dataset=digits", "distill=none", "student=resnet8", *(word for word in words if word != "student=narrow")
    )
    if narrow:
        config["model"]["student"] = {"name": "narrow", "_target_": f"{__name__}.narrow"}
        config["plugins"] = [__name__.partition(".")[0]]
        monkeypatch.setattr("kdexp.training.fits.build_network", lambda node, plugins: narrow_network())
    check = lambda: check_batches(config, config["dataset"]["limit"])
    if message is None:
        return check()
    with pytest.raises(UsageError, match=message):
        check()


def narrow_network():
    return nn.Sequential(nn.Conv2d(3, 4, 8), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 10))


NODE = {"name": "mine", "num_classes": 3, "image_size": 8, "channels": 3}
IMAGES, LABELS = torch.zeros(6, 3, 8, 8, dtype=torch.uint8), torch.tensor([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize(
    "images, labels, message",
    [
        (IMAGES / 255, LABELS, r"the test images are torch.float32, and must be uint8 .* divided by 255 here"),
        (IMAGES[:, :, :4, :4], LABELS, r"have the shape \(6, 3, 4, 4\), and must be \(N, 3, 8, 8\)"),
        (IMAGES.permute(0, 2, 3, 1), LABELS, r"have the shape \(6, 8, 8, 3\)"),
        (IMAGES, LABELS + 1, "have labels from 1 to 3, and must have 0 to 2"),
        (IMAGES, LABELS.int(), "must have one int64 for each of 6"),
        (IMAGES, LABELS[:5], "must have one int64 for each of 6"),
    ],
)
def test_a_data_set_of_ones_own_is_checked(images, labels, message):
    check_images(NODE, train=Images(IMAGES, LABELS))
    with pytest.raises(DatasetError, match=message):
        check_images(NODE, train=Images(IMAGES, LABELS), test=Images(images, labels))


@pytest.mark.parametrize(
    "words",
    [
        ["teacher_checkpoint=FILE", "teacher_normalize=[[125.3,123.0,113.9],[63.0,62.1,66.7]]"],
        ["dataset.mean=[125.3,123.0,113.9]", "dataset.std=[63.0,62.1,66.7]"],
    ],
)
def test_constants_in_the_units_of_bytes(run, tmp_path, words):
    torch.save(ResNet(8, 10, image_size=8).state_dict(), tmp_path / "net.pth")
    words = [word.replace("FILE", str(tmp_path / "net.pth")) for word in words]
    refused = run("distill=kd", "teacher=resnet8", *words, check=1).stderr
    assert "Divide means and standard deviations of 0 to 255 by 255" in refused and "Traceback" not in refused


def test_the_head_of_a_table_says_what_differs(run, tmp_path):
    """Also where the folder's name is cut."""
    long = ("optimizer=adamw", "optimizer.lr=0.002", "recipe.warmup=0.25", "recipe.smoothing=0.125", "recipe.clip=2.5")
    run("-m", "distill=none,kd", "epochs=1", *long, check=0)
    (rows,) = labels.pairs(summarize(load(tmp_path / "outputs")))
    assert len(rows.variant[0]) == 80
    assert all(word in labels.circumstances(rows) for word in long)


def test_the_winner_of_a_search_is_named_by_all_that_won(run):
    words = (
        "distill=kd",
        "recipe.clip=0.5,2",
        "distill.temperature=2,4",
        "dataset.validation=16",
        "threads=1",
        "epochs=1",
    )
    done = run("-m", *words, check=0).stdout
    line, command = done.splitlines()[1:3]
    assert re.match(r"KD   .*recipe.clip=(0.5|2)", line) or "recipe.clip" in line
    assert "threads=1" in command and "paths.outputs=" in command and "recipe.clip=" in command


def test_only_our_own_files_are_deleted(tmp_path):
    run_folder = tmp_path / "run"
    (run_folder / ".ipynb_checkpoints").mkdir(parents=True)
    (run_folder / ".notes").write_text("mine")
    (run_folder / ".result.json.123").write_text("half")
    one = Record(run_folder)
    assert one.lock()
    one.start({"seed": 1}, "0" * 16)
    assert sorted(path.name for path in run_folder.glob(".*")) == [".ipynb_checkpoints", ".notes"]
    (run_folder / "result.json").write_text("{}")
    one.unlock()
    one.tidy()
    assert sorted(path.name for path in run_folder.glob(".*")) == [".ipynb_checkpoints", ".notes"]


def test_two_processes_download_once(tmp_path, monkeypatch):
    """The second waits, and does not call half a download corrupt."""
    monkeypatch.setattr(download, "_reach", lambda url, root: None)
    file, calls, errors = tmp_path / "data" / "images", [], []

    def fetch():
        calls.append(1)
        file.write_text("half")
        time.sleep(0.5)
        file.write_text("whole")

    def get():
        try:
            download.get(tmp_path / "data", "https://x", {file: "b3b1fdfc6ba5a3d0cd8a0ff9e3b5ee2b"}, fetch)
        except DatasetError as error:
            errors.append(str(error))

    monkeypatch.setattr(download, "check_integrity", lambda path, md5: path.exists() and path.read_text() == "whole")
    threads = [threading.Thread(target=get) for _ in range(3)]
    for one in threads:
        one.start()
        time.sleep(0.1)
    for one in threads:
        one.join()
    assert calls == [1] and not errors


def test_logits_beyond_float16(tmp_path):
    small, large = np.array([[1.5, -2.0]]), np.array([[1e6, -1e30]])
    for logits, kind in ((small, np.float16), (large, np.float32)):
        Record(tmp_path).save_logits(logits)
        kept = np.load(tmp_path / "logits.npy")
        assert kept.dtype == kind and np.isfinite(kept).all() and np.allclose(kept, logits)


def test_a_run_whose_process_died_is_stopped(tmp_path):
    here = socket.gethostname()
    record(tmp_path, "none", seed=1), record(tmp_path, "kd", seed=1)
    record(tmp_path, "kd", seed=2, status="running", state={"pid": 2**22 + 1, "heartbeat": time.time(), "host": here})
    runs = load(tmp_path)
    assert sorted(runs.status) == ["done", "done", "stopped"]
    assert "1 stopped" in str(summarize(runs).state.tolist())


def test_dry_run_says_that_the_command_would_stop(run):
    done = run("distill=none", "dataset.limit=100000", "dry_run=true", check=0)
    assert "not ready   dataset.limit=100000: digits has only 1297 of these images" in done.stderr


def test_times_of_a_group_are_no_student_s(tmp_path):
    for name, seed in itertools.product(("none", "kd"), (1, 2)):
        record(tmp_path, name, seed=seed, result={"seconds": 10.0 + seed, "group_size": 4, "peak_memory_mb": 100.0})
    runs = load(tmp_path)
    for metric in ("seconds", "peak_memory_mb"):
        with pytest.raises(ValueError, match=f"--metric {metric}: .*up to 4 in a group.*share=1"):
            summarize(runs, metric)
    alone = runs.assign(group_size=1)
    assert summarize(alone, "seconds")["mean"].tolist() == [11.5, 11.5]
    with pytest.raises(ValueError, match="the whole process"):
        summarize(alone.assign(device="cpu"), "peak_memory_mb")
