"""The cache of decoded images on disk, with one folder for each state of the source files: NAME.images and NAME.labels
(uint8, int64) as raw bytes, and index.json, which describes them."""

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kdexp import screen
from kdexp.datasets import Images
from kdexp.datasets.decoding import SPLITS, Listing, check_classes, decoded
from kdexp.datasets.waiting import alone
from kdexp.storage import lease, seal
from kdexp.storage.files import writing

CURE = "Choose another folder with paths.data=DIR"


def read_index(place: Path) -> dict:
    """index.json if every file exists and has the right size, else {}."""
    index = seal.read_json(place / "index.json") or {}
    for split, count in index.get("images", {}).items():
        for name, size in (("images", count * 3 * index["size"] ** 2), ("labels", count * 8)):
            file = place / f"{split}.{name}"
            if not file.is_file() or file.stat().st_size != size:
                return {}
    return index


def read(place: Path, index: dict, mapped: bool) -> list[Images]:
    """Training and test images, loaded or memory-mapped, so that only what is used is read from the disk."""
    parts = []
    for split in SPLITS:
        shape = (index["images"][split], 3, index["size"], index["size"])
        file = place / f"{split}.images"
        # "c" (copy on write): torch wants a writable array, but nothing ever reaches the file
        images = np.memmap(file, np.uint8, "c", shape=shape) if mapped else np.fromfile(file, np.uint8).reshape(shape)
        labels = np.fromfile(place / f"{split}.labels", np.int64)
        parts.append(Images(torch.from_numpy(images), torch.from_numpy(labels)))
    return parts


def content(parts: list[Images]) -> str:
    """The first 12 hex digits of the sha256 of all images (with their shape) and labels."""
    digest = hashlib.sha256()
    for images, labels in parts:
        digest.update(str(tuple(images.shape)).encode())
        digest.update(images.numpy())
        digest.update(labels.numpy())
    return digest.hexdigest()[:12]


def statistics(images: torch.Tensor) -> dict[str, list[float]]:
    """mean and std of pixel / 255 per channel over images (N, 3, H, W) uint8, to four digits."""
    counts = np.zeros((3, 256), np.int64)
    for part in images.split(128):
        counts += [np.bincount(channel.flatten(), minlength=256) for channel in part.numpy().swapaxes(0, 1)]
    values = np.arange(256) / 255
    mean = (counts * values).sum(1) / counts.sum(1)
    std = np.sqrt((counts * (values - mean[:, None]) ** 2).sum(1) / counts.sum(1))
    # a constant channel is not scaled
    return {
        "mean": [round(value, 4) for value in mean.tolist()],
        "std": [round(value, 4) or 1.0 for value in std.tolist()],
    }


@contextlib.contextmanager
def locked(place: Path) -> Iterator[None]:
    """Lock: inside, only this process writes this folder."""
    with contextlib.ExitStack() as held:
        with writing(place, CURE):
            place.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(alone(lease.of(place), f"decoding the same images into {place}"))
        yield


def make(place: Path, source: Path, size: int, listing: Listing) -> dict:
    """Decode all images; the folder appears complete or not at all. Returns the index. Raises DatasetError for a class
    without readable images."""
    count, began = sum(map(len, listing.files.values())), time.perf_counter()
    screen.say(f"decoding {count:,} images below {source} to {size}x{size}, once; they are cached in {place}")
    temporary = place.with_name(f".{place.name}.{os.getpid()}.part")
    with writing(place, CURE):
        for leftover in place.parent.glob(f".{place.name}.*.part"):  # from a process that was killed
            shutil.rmtree(leftover)
        temporary.mkdir()
        try:
            index = _fill(temporary, source, size, listing)
            shutil.rmtree(place, ignore_errors=True)  # a corrupt one
            os.replace(temporary, place)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    numbers, took = index["images"], screen.duration(time.perf_counter() - began)
    screen.say(
        f"decoded {numbers['train']:,} training and {numbers['test']:,} test images of {len(index['classes'])} classes in {took}"
    )
    return index


def _fill(place: Path, source: Path, size: int, listing: Listing) -> dict:
    index: dict[str, Any] = {"root": str(source), "size": size, "classes": listing.classes}
    index |= {"num_classes": len(listing.classes), "images": {}}
    unreadable: list[str] = []
    changed: Counter[str] = Counter()
    for split in SPLITS:
        labels, here = [], []
        with open(place / f"{split}.images", "wb") as file:
            for image, (path, label) in decoded(listing.files[split], size, f"decoding {split}/"):
                if image.pixels is None:
                    here.append(f"{os.path.relpath(path, source)} ({image.why})")
                    continue
                file.write(image.pixels.tobytes())
                labels.append(label)
                changed.update(key for key in ("turned", "transparent") if getattr(image, key))
            file.flush()
            os.fsync(file.fileno())
        check_classes(source / split, listing.classes, labels, sorted(here))
        np.array(labels, dtype=np.int64).tofile(place / f"{split}.labels")
        index["images"][split] = len(labels)
        unreadable += sorted(here)
    parts = read(place, index, mapped=True)
    index |= statistics(parts[0].images) | {"content": content(parts)}
    index |= {"unreadable": unreadable, "others": listing.others, "skipped": listing.skipped, "changed": changed}
    (place / "index.json").write_text(json.dumps(index | {"seal": seal.of_result(index)}, indent=1))
    return index
