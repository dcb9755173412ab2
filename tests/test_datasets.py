import hashlib
import pickle

import numpy as np
import pytest
import torch
import torchvision
from scipy import stats
from torchvision.transforms import v2

from kdexp.datasets import DatasetError, Images, cifar, split_validation
from kdexp.datasets.batches import Pixels, TrainBatches, crop_and_flip
from kdexp.datasets.digits import digits

READERS = {
    "cifar10": (torchvision.datasets.CIFAR10, cifar.cifar10, "labels"),
    "cifar100": (torchvision.datasets.CIFAR100, cifar.cifar100, "fine_labels"),
}


@pytest.fixture(params=READERS)
def files(request, tmp_path, monkeypatch):
    """A small set in the original file format, with its checksums where torchvision keeps the original's."""
    source, read, key = READERS[request.param]
    rng, written = np.random.default_rng(0), {}

    def write(name, content):
        path = tmp_path / source.base_folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(pickle.dumps(content, protocol=2))
        return [name, hashlib.md5(path.read_bytes()).hexdigest()]

    for part in ("train_list", "test_list"):
        entries = []
        for name, _ in getattr(source, part):
            written[name] = (rng.integers(0, 256, (20, 3072), dtype=np.uint8), rng.integers(0, 10, 20).tolist())
            entries.append(write(name, {"data": written[name][0], key: written[name][1]}))
        monkeypatch.setattr(source, part, entries)
    meta = write(source.meta["filename"], {source.meta["key"]: [str(i) for i in range(10)]})
    monkeypatch.setattr(source, "meta", source.meta | {"md5": meta[1]})
    return tmp_path, source, read, written


def test_cifar_is_read_from_the_original_files(files):
    root, source, read, written = files
    for split, part in zip(read(root), (source.train_list, source.test_list)):
        assert torch.equal(
            split.images, torch.from_numpy(np.concatenate([written[name][0] for name, _ in part])).view(-1, 3, 32, 32)
        )
        assert split.labels.tolist() == sum((written[name][1] for name, _ in part), [])
        assert split.images.dtype == torch.uint8 and split.labels.dtype == torch.int64


def test_damaged_files_are_named(files):
    root, source, read, _ = files
    path = root / source.base_folder / source.test_list[0][0]
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=f"{path.name} is corrupt"):
        read(root)


def test_no_data_and_no_network(tmp_path, monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no connection")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    with pytest.raises(
        DatasetError, match="cannot be downloaded from here.*https://.*cifar-100-python.tar.gz .*dataset=digits"
    ):
        cifar.cifar100(tmp_path / "data")
    assert not (tmp_path / "data").exists()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cifar-100-python.tar.gz").write_bytes(b"half a download")
    with pytest.raises(DatasetError, match="cifar-100-python.tar.gz is corrupt"):
        cifar.cifar100(tmp_path / "data")


def test_digits():
    train, test = digits()
    again, _ = digits()
    assert torch.equal(train.images, again.images)
    assert train.images.shape == (1297, 3, 8, 8) and test.images.shape == (500, 3, 8, 8)
    assert sorted(set(train.labels.tolist())) == sorted(set(test.labels.tolist())) == list(range(10))
    rows = {image.numpy().tobytes() for image in train.images} & {image.numpy().tobytes() for image in test.images}
    assert len(rows) == 0


def test_enlarged_digits_are_the_same_scans():
    (small, test), (large, large_test) = digits(), digits(size=32)
    assert large.images.shape == (1297, 3, 32, 32) and large_test.images.shape == (500, 3, 32, 32)
    assert torch.equal(large.labels, small.labels) and torch.equal(large_test.labels, test.labels)
    theirs = v2.functional.resize(small.images[:50].float(), [32, 32], antialias=False)
    assert (large.images[:50] - theirs).abs().max() <= 1  # which enlarges pixels that are already rounded


def test_validation_split_is_stratified_and_fixed():
    labels = torch.tensor([0] * 500 + [1] * 300 + [2] * 200)
    data = Images(torch.arange(1000).view(-1, 1, 1, 1).to(torch.int64), labels)
    train, held = split_validation(data, 101)
    assert held.labels.bincount().tolist() in ([51, 30, 20], [50, 31, 20], [50, 30, 21])
    assert sorted([*train.images.flatten().tolist(), *held.images.flatten().tolist()]) == list(range(1000))
    assert torch.equal(split_validation(data, 101)[1].images, held.images)


def outcomes(images):
    """The image that each result is, as a number."""
    return [hash(image.numpy().tobytes()) for image in images.to(torch.uint8)]


@pytest.mark.parametrize("mode", ["constant", "reflect"])
def test_crop_and_flip_has_torchvisions_distribution(mode):
    """On one image: the same set of 162 possible results as RandomCrop(32, padding=4) and RandomHorizontalFlip, all
    equally likely."""
    image = torch.randint(1, 256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    transform = v2.Compose([v2.RandomCrop(32, padding=4, padding_mode=mode), v2.RandomHorizontalFlip()])
    theirs = outcomes(torch.stack([transform(image) for _ in range(4000)]))
    count = 16200
    batches = TrainBatches(
        Images(image.expand(count, 3, 32, 32), torch.zeros(count, dtype=torch.long)),
        Pixels([0, 0, 0], [1 / 255] * 3),
        count,
        1,
        4,
        mode,
        True,
    )
    ours = outcomes(next(batches.epoch(0))[0].round())
    assert len(set(theirs)) == 162 and set(theirs) == set(ours)
    assert stats.chisquare([ours.count(value) for value in set(ours)]).pvalue > 1e-3


def test_crop_and_flip_by_hand():
    images = torch.arange(2 * 3 * 4 * 4).view(2, 3, 4, 4)
    shifts, mirrored = torch.tensor([[1, 1], [0, 2]]), torch.tensor([True, False])
    result = crop_and_flip(images, shifts, mirrored, 1, "constant")
    assert torch.equal(result[0], images[0].flip(2).float())
    padded = torch.nn.functional.pad(images[1].float(), (1, 1, 1, 1))
    assert torch.equal(result[1], padded[:, 0:4, 2:6])


def test_an_epoch_sees_every_image_once_and_can_be_entered_anywhere():
    data = Images(torch.arange(50, dtype=torch.uint8).view(-1, 1, 1, 1).expand(50, 3, 2, 2), torch.arange(50))
    batches = TrainBatches(data, Pixels([0, 0, 0], [1, 1, 1]), 16, 1, 0, "constant", False)
    epoch = list(batches.epoch(3))
    assert [len(labels) for _, labels, _ in epoch] == [16, 16, 16, 2] and len(batches) == 4
    assert sorted(torch.cat([labels for _, labels, _ in epoch]).tolist()) == list(range(50))
    for (images, labels, _), (images2, labels2, _) in zip(epoch[2:], batches.epoch(3, start=2)):
        assert torch.equal(images, images2) and torch.equal(labels, labels2)
    assert (
        torch.cat([labels for _, labels, _ in batches.epoch(4)]).tolist()
        != torch.cat([labels for _, labels, _ in epoch]).tolist()
    )
