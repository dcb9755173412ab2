"""A folder of image files with one subfolder per class: list the files, and decode each to a uint8 square."""

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS, find_classes, has_file_allowed_extension, make_dataset
from torchvision.transforms.v2 import functional as transforms

from kdexp import screen
from kdexp.datasets import DatasetError

SPLITS = ("train", "test")
LAYOUT = "It needs train/CLASS/ and test/CLASS/ with images inside"
CHUNK = 128  # images decoded and written at a time


class Listing(NamedTuple):
    """classes: their names, sorted. files: split -> (path, class) of each image file. others: the number of files with
    each extension that is not an image's; these are ignored."""

    classes: list[str]
    files: dict[str, list[tuple[str, int]]]
    others: dict[str, int]

    def entries(self, root: Path) -> list[tuple[str, int, int]]:
        """What identifies each file's state: path below root, size in bytes, modification time (ns)."""
        paths = [path for split in SPLITS for path, _ in self.files[split]]
        return [(os.path.relpath(path, root), (at := os.stat(path)).st_size, at.st_mtime_ns) for path in paths]


def list_images(root: Path) -> Listing:
    """root/train/CLASS/* and root/test/CLASS/* as torchvision's ImageFolder finds them, then shuffled, the same way
    every time. Raises DatasetError for a folder without this layout."""
    classes = {split: _classes(root, split) for split in SPLITS}
    both = set.intersection(*map(set, classes.values()))
    if odd := [f"{name} is only in {split}/" for split in SPLITS for name in classes[split] if name not in both]:
        raise DatasetError(f"{root}: train/ and test/ must have the same classes, and {first_of(odd)}")
    numbers, files = {name: number for number, name in enumerate(classes["train"])}, {}
    others: Counter[str] = Counter()

    def is_image(path: str) -> bool:
        known = has_file_allowed_extension(path, IMG_EXTENSIONS)
        others.update([] if known else [os.path.splitext(path)[1]])
        return known

    for split in SPLITS:
        found = make_dataset(root / split, numbers, is_valid_file=is_image, allow_empty=True)
        check_classes(root / split, classes["train"], [label for _, label in found])
        # they are found class by class, so the first N (dataset.limit) would all have one class
        order = torch.randperm(len(found), generator=torch.Generator().manual_seed(0))
        files[split] = [found[position] for position in order]
    return Listing(classes["train"], files, dict(others))


def _classes(root: Path, split: str) -> list[str]:
    if not (root / split).is_dir():
        raise DatasetError(f"{root} has no folder {split}/. {LAYOUT}")
    try:
        return find_classes(root / split)[0]
    except FileNotFoundError:
        raise DatasetError(f"{root / split} has no folder for each class. {LAYOUT}") from None


def check_classes(place: Path, classes: list[str], labels: list[int], unreadable: list[str] | None = None) -> None:
    """Raise DatasetError for a class without labels."""
    counts = np.bincount(np.array(labels, dtype=np.int64), minlength=len(classes))
    empty = [name for name, count in zip(classes, counts) if not count]
    those = f" that can be read. These cannot: {first_of(unreadable)}" if unreadable else ""
    if len(empty) == len(classes):
        raise DatasetError(f"{place}: there are no images{those}. {LAYOUT}")
    if empty:
        cure = "Put some there, or remove the class from train/ and test/"
        raise DatasetError(f"{place}: there are no images of {first_of(empty)}{those}. {cure}")


def first_of(names: list[str]) -> str:
    """The first ten names, and how many more there are."""
    more = f" and {len(names) - 10:,} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more


def decode(path: str, size: int) -> np.ndarray | str:
    """(3, size, size) uint8 RGB: the shorter side resized to `size` with antialiasing, then a center crop. For a file
    that cannot be read, the reason."""
    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):  # PIL would clip its values at 255
                return f"more than 8 bits per channel, mode {image.mode}"
            resized = transforms.resize(image.convert("RGB"), [size], antialias=True)
            return transforms.pil_to_tensor(transforms.center_crop(resized, [size])).contiguous().numpy()
    except Exception as error:  # PIL's errors for corrupt files have no common base
        return "not an image" if isinstance(error, Image.UnidentifiedImageError) else str(error) or type(error).__name__


def decoded(files: list[tuple[str, int]], size: int, title: str) -> Iterator[tuple[np.ndarray, list[int], list]]:
    """Yields the files in chunks: images (n, 3, size, size) uint8, their classes, and (path, reason) of each file that
    cannot be read."""
    with ThreadPoolExecutor() as pool:  # PIL decodes and resizes without holding the GIL
        for start in screen.track(range(0, len(files), CHUNK), title):
            part = files[start : start + CHUNK]
            results = list(pool.map(lambda file: decode(file[0], size), part))
            good = [(one, label) for one, (_, label) in zip(results, part) if not isinstance(one, str)]
            bad = [(path, one) for one, (path, _) in zip(results, part) if isinstance(one, str)]
            images = np.stack([one for one, _ in good]) if good else np.empty((0, 3, size, size), np.uint8)
            yield images, [label for _, label in good], bad
