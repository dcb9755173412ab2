"""dataset=folder: images of your own, decoded once; unreadable files are named and skipped."""

import json
import os
import re
import shutil

import numpy as np
import pictures
import pytest
import torch
from torchvision import transforms
from torchvision.datasets.folder import pil_loader

import kdexp
from kdexp.config import naming
from kdexp.datasets import DatasetError
from kdexp.datasets.folder import folder, measure
from kdexp.errors import UsageError

BROKEN = ("empty.png (not an image)", "text.png (not an image)", "truncated.png (image file is truncated")
WORDS = ("dataset=folder", "dataset.size=16", "recipe=quick", "epochs=2", "batch_size=16", "distill=none")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("made") / "pictures"
    pictures.make(root)
    return root


@pytest.fixture
def root(made, tmp_path):
    """A copy that may be changed, and whose mean and std are computed anew."""
    measure.cache_clear()
    return shutil.copytree(made, tmp_path / "pictures")


@pytest.fixture
def train(run, root, tmp_path):
    words = (*WORDS, "student=resnet8", f"dataset.root={root}", f"paths.data={tmp_path}/data")
    return lambda *more, **options: run(*words, *more, tiny=False, **options)


def result(tmp_path):
    (path,) = tmp_path.glob("outputs/**/result.json")
    return json.loads(path.read_text()), path.parent


def test_a_run_on_images_of_ones_own(train, root, tmp_path):
    """It trains; broken files are reported on stderr and in the log; images are decoded once; memory-mapped images give
    the same weights; the network still loads after the images are deleted."""
    first = train(check=0)
    assert "decoding 183 images" in first.stderr
    assert "decoded 120 training and 60 test images of 3 classes" in first.stderr
    found, place = result(tmp_path)
    for name in BROKEN:
        assert f"train/red/{name}" in first.stderr and f"train/red/{name}" in (place / "run.log").read_text()
    assert found["test_acc"] > 60
    assert re.fullmatch(
        r"batch_size=16,dataset.content=[0-9a-f]{12},dataset.size=16,epochs=2,recipe=quick", place.parent.name
    )
    assert "done before" in (again := train(check=0)).stderr and "decod" not in again.stderr
    mapped = train("dataset.in_memory_mb=0", "rerun=all", check=0)
    assert "decod" not in mapped.stderr and mapped.stderr.count("are mapped from") == 1
    assert result(tmp_path)[0]["student_sha256"] == found["student_sha256"]
    shutil.rmtree(root)
    shutil.rmtree(tmp_path / "data")
    network = kdexp.load(place)
    assert network(torch.zeros(1, 3, 16, 16)).logits.shape == (1, 3)
    assert network.config["dataset"]["num_classes"] == 3


def test_an_option_of_ones_own_is_the_base(forked, root, tmp_path):
    """Two processes at once decode once."""
    (tmp_path / "conf" / "dataset").mkdir(parents=True)
    text = f"defaults: [folder, _self_]\nname: flowers\nroot: {root}\n"
    (tmp_path / "conf" / "dataset" / "flowers.yaml").write_text(text)
    words = ("dataset=flowers", f"paths.data={tmp_path}/data", "student=resnet8")
    option = f"--config-dir={tmp_path}/conf"
    both = [forked(*words, "prepare=true", option, tiny=False) for _ in range(2)]
    told = [one.wait(check=0).stderr for one in both]
    assert sum("decoding 183 images" in text for text in told) == 1 and all("prepared" in text for text in told)
    more = ("recipe=quick", "distill=none", "epochs=1", "batch_size=60")
    forked(*words, *more, option, tiny=False).wait(check=0)
    place = result(tmp_path)[1].relative_to(tmp_path)
    assert str(place) == "outputs/flowers/resnet8/none/batch_size=60,epochs=1,recipe=quick/seed1"


def test_decoded_as_torchvision_does(root, tmp_path):
    train, test, *_ = folder(tmp_path, root, 24)
    assert train.images.shape == (120, 3, 24, 24) and train.images.dtype == torch.uint8
    square = transforms.Compose([transforms.Resize(24), transforms.CenterCrop(24), transforms.PILToTensor()])
    for part, split in ((train, "train"), (test, "test")):
        theirs = []
        for label, name in enumerate(sorted(pictures.COLORS)):
            for path in (root / split / name).glob("[0-9]*.png"):
                theirs.append((square(pil_loader(path)).numpy().tobytes(), label))
        ours = [(image.numpy().tobytes(), int(label)) for image, label in zip(part.images, part.labels)]
        assert sorted(ours) == sorted(theirs)
        assert len(set(part.first(15).labels.tolist())) == 3  # the first N are of all classes


def test_statistics_are_those_of_the_training_images(root, tmp_path):
    train, *_ = folder(tmp_path, root, 16)
    pixels = train.images.double().numpy() / 255
    measured = measure(str(tmp_path), str(root), 16)
    assert measured["mean"] == [round(float(pixels[:, channel].mean()), 4) for channel in range(3)]
    assert measured["std"] == [round(float(np.std(pixels[:, channel])), 4) for channel in range(3)]


def test_mapped_images_stay_on_the_disk(root, tmp_path):
    loaded, mapped = folder(tmp_path, root, 16), folder(tmp_path, root, 16, in_memory_mb=0)
    for one, other in zip(loaded[:2], mapped[:2]):
        assert torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)
    first = mapped[0].first(50).to(torch.device("cpu"))
    assert first.images.data_ptr() == mapped[0].images.data_ptr()
    assert "train.images" in open("/proc/self/maps").read() if os.path.exists("/proc/self/maps") else True


def test_names_follow_from_what_the_folder_holds(hydra, root, tmp_path):
    """Never from where it is or how it is read."""

    def named(place, *more):
        measure.cache_clear()
        config = hydra("dataset=folder", f"dataset.root={place}", f"paths.data={tmp_path}/data", *more)
        return naming.folder(config), naming.fingerprint(config)

    first = named(root)
    assert named(shutil.copytree(root, tmp_path / "elsewhere"), "dataset.in_memory_mb=0") == first
    assert named(root, "dataset.size=64", f"paths.data={tmp_path}/other") == first
    others = [named(root, "dataset.size=32"), named(root, "dataset.mean=[0,0,0]"), named(root, "dataset.padding=2")]
    others.append(named(root, "dataset.content=null"))  # then nothing stands for the folder but its path
    shutil.copy(root / "train/red/0.png", root / "train/red/new.png")
    others.append(named(root))
    (root / "train/red/new.png").write_bytes((root / "train/red/1.png").read_bytes())
    others.append(named(root))
    assert (
        len({fingerprint for _, fingerprint in (first, *others)}) == len({place for place, _ in (first, *others)}) == 7
    )
    (root / "train/red/new.png").unlink()
    assert named(root) == first


@pytest.mark.parametrize("file", ["train.images", "test.labels", "index.json"])
@pytest.mark.parametrize("damage", ["changed", "truncated", "missing"])
def test_damage_is_said_and_mended(root, tmp_path, capsys, file, damage):
    before = folder(tmp_path / "data", root, 16)
    (path,) = tmp_path.glob(f"data/folder/*/{file}")
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    (path.parent.parent / f".{path.parent.name}.1.part").mkdir()  # of a process that was killed
    path.unlink() if damage == "missing" else path.write_bytes(content if damage == "changed" else content[:-5])
    capsys.readouterr()
    after = folder(tmp_path / "data", root, 16)
    assert re.search(f"{path.parent} is corrupt.*\ndecoding 183", capsys.readouterr().err)
    assert all(torch.equal(one.images, other.images) for one, other in zip(before[:2], after[:2]))
    folder(tmp_path / "data", root, 16)
    assert capsys.readouterr().err == "" and not list(tmp_path.glob("data/folder/.*.part"))


def test_many_unreadable_files_are_ten_names_and_a_number(root, tmp_path):
    for number in range(30):
        (root / "train/blue" / f"bad{number:02}.png").write_bytes(b"")
    (root / "train/blue/notes.txt").write_text("hello")
    *_, unreadable, others = folder(tmp_path, root, 16)
    assert unreadable.startswith(
        f"33 files below {root} cannot be read and are skipped: train/blue/bad00.png (not an image), "
    )
    assert unreadable.count("not an image") == 10 and re.search(r" and 23 more \(all: .*/index.json\)$", unreadable)
    assert others == "files without an image extension are skipped: 1 .txt"


def empty_class(root):
    for path in (root / "train/red").glob("[0-9]*.png"):
        path.unlink()


REFUSED = [
    (lambda root: shutil.rmtree(root), "there is no such folder"),
    (lambda root: shutil.rmtree(root / "test"), "has no folder test/. It needs train/CLASS/"),
    (lambda root: [shutil.rmtree(place) for place in (root / "train").iterdir()], "train has no folder for each class"),
    (lambda root: shutil.rmtree(root / "test/red"), "must have the same classes, and red is only in train/"),
    (
        empty_class,
        r"train: there are no images of red that can be read. These cannot: train/red/empty.png \(not an image\)",
    ),
    (lambda root: [path.unlink() for path in root.glob("test/*/*")], "test: there are no images. It needs"),
    (
        lambda root: [path.write_text("") for path in root.glob("test/*/*")],
        "test: there are no images that can be read",
    ),
    (lambda root: [path.unlink() for path in root.glob("test/red/*")], "test: there are no images of red. Put some"),
]


@pytest.mark.parametrize("change, message", REFUSED, ids=[message[:25] for _, message in REFUSED])
def test_a_folder_that_is_not_as_it_must_be(hydra, root, tmp_path, change, message):
    change(root)
    with pytest.raises(UsageError, match=f"^folder: .*{message}"):
        hydra("dataset=folder", f"dataset.root={root}", f"paths.data={tmp_path}/data")
    assert not list(tmp_path.glob("data/folder/[!.]*")) and not list(tmp_path.glob("data/folder/.*.part"))


WRONG = [
    (("dataset=folder",), "^folder: it needs your images: dataset.root=DIR, with train/CLASS/ and test/CLASS/ inside$"),
    (("dataset=folder", "dataset.root=x", "dataset.size=0"), "dataset.size=0: must be a whole number of pixels"),
    (("dataset=folder", "dataset.root=x", "dataset.size=big"), "dataset.size=big: must be a whole number of pixels"),
]


@pytest.mark.parametrize("words, message", WRONG, ids=lambda value: " ".join(value) if isinstance(value, tuple) else "")
def test_words_that_are_not_as_they_must_be(hydra, words, message):
    with pytest.raises(UsageError, match=message):
        hydra(*words)


def test_images_of_another_content_are_refused(root, tmp_path):
    content = measure(str(tmp_path), str(root), 16)["content"]
    folder(tmp_path, root, 16, content)
    with pytest.raises(DatasetError, match=f"their content is {content}, not 0123"):
        folder(tmp_path, root, 16, "0123")
    with pytest.raises(DatasetError, match="in_memory_mb=much: must be a number"):
        folder(tmp_path, root, 16, in_memory_mb="much")
