"""A folder of image files with one subfolder per class: list the files, and decode each to a uint8 square."""

import os
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torchvision.datasets.folder import IMG_EXTENSIONS, has_file_allowed_extension
from torchvision.transforms.v2 import functional as transforms

from kdexp import screen
from kdexp.datasets import DatasetError

SPLITS = ("train", "test")
LAYOUT = "It needs train/CLASS/ and test/CLASS/ with images inside"
CHUNK = 128  # images decoded and written at a time
NOT_CLASSES = ("__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN")  # folders that systems and network drives make

# a photograph of 100 megapixels is no attack; from twice PIL's limit on, it is an error, and the file is named
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class Listing(NamedTuple):
    """classes: their names, sorted. files: split -> (path, class) of each image file. others: the number of files with
    each extension that is not an image's; these are ignored. skipped: hidden folders and those of operating systems."""

    classes: list[str]
    files: dict[str, list[tuple[str, int]]]
    others: dict[str, int]
    skipped: list[str]

    def entries(self, root: Path) -> list[tuple[str, int, int]]:
        """What identifies each file's state: path below root, size in bytes, modification time (ns)."""
        paths = [path for split in SPLITS for path, _ in self.files[split]]
        # a link that leads nowhere is an unreadable file
        state = lambda path: os.stat(path) if os.path.exists(path) else os.lstat(path)
        return [(os.path.relpath(path, root), (at := state(path)).st_size, at.st_mtime_ns) for path in paths]


def list_images(root: Path) -> Listing:
    """root/train/CLASS/* and root/test/CLASS/*, also in folders below CLASS, in the order of torchvision's ImageFolder, then
    shuffled, the same way every time. Raises DatasetError for a folder without this layout."""
    skipped: list[str] = []
    classes = {split: _classes(root, split, skipped) for split in SPLITS}
    both = set.intersection(*map(set, classes.values()))
    if odd := [f"{name} is only in {split}/" for split in SPLITS for name in classes[split] if name not in both]:
        raise DatasetError(f"{root}: train/ and test/ must have the same classes, and {first_of(odd)}")
    others: Counter[str] = Counter()
    files = {}
    for split in SPLITS:
        labeled = []
        for number, name in enumerate(classes[split]):
            paths = _files(root, root / split / name, skipped)
            images = [path for path in paths if has_file_allowed_extension(path, IMG_EXTENSIONS)]
            others.update(os.path.splitext(path)[1] for path in {*paths} - {*images})
            labeled += [(path, number) for path in images]
        check_classes(root / split, classes["train"], [label for _, label in labeled])
        # they are found class by class, so the first N (dataset.limit) would all have one class
        order = torch.randperm(len(labeled), generator=torch.Generator().manual_seed(0))
        files[split] = [labeled[position] for position in order]
    if len(both) == 1:
        raise DatasetError(_one_class(root, classes["train"][0]))
    return Listing(classes["train"], files, dict(others), sorted(os.path.relpath(path, root) for path in skipped))


def _classes(root: Path, split: str, skipped: list[str]) -> list[str]:
    if not (root / split).is_dir():
        within = [path for path in sorted(root.iterdir()) if all((path / split).is_dir() for split in SPLITS)]
        meant = f"Did you mean dataset.root={within[0]}? " if within else ""
        raise DatasetError(f"{root} has no folder {split}/. {meant}{LAYOUT}")
    names = [entry.name for entry in os.scandir(root / split) if entry.is_dir()]
    if classes := _shown(str(root / split), names, skipped):
        return sorted(classes)
    raise DatasetError(f"{root / split} has no folder for each class. {LAYOUT}")


def _shown(top: str, names: list[str], skipped: list[str]) -> list[str]:
    """These folders in `top` without those that nobody put there to train on, which are added to `skipped`."""
    hidden = [name for name in names if name.startswith(".") or name in NOT_CLASSES]
    skipped += [os.path.join(top, name) for name in hidden]
    return [name for name in names if name not in hidden]


def _files(root: Path, top: Path, skipped: list[str]) -> list[str]:
    """The files in a class's folder and those below it. Linked folders are followed, but not back into `root`: they would
    give a class the images of another, or go in circles."""
    files, images = [], root.resolve()
    for folder, inside, names in os.walk(top, followlinks=True):
        shown = _shown(folder, inside, skipped)
        links = {name: Path(folder, name).resolve() for name in shown if os.path.islink(os.path.join(folder, name))}
        back = [name for name, at in links.items() if at.is_relative_to(images) or images.is_relative_to(at)]
        skipped += [os.path.join(folder, name) for name in back]
        inside[:] = [name for name in shown if name not in back]
        files.append((folder, sorted(name for name in names if not name.startswith("."))))
    return [os.path.join(folder, name) for folder, names in sorted(files) for name in names]


def _one_class(root: Path, name: str) -> str:
    """Why a single class is refused: it is often a folder too many."""
    below = sorted(entry.name for entry in os.scandir(root / "train" / name) if entry.is_dir())
    meant = f"{root}/train/{name} holds folders: {first_of(below)}. If these are the classes, they belong directly in train/ and test/"
    return (
        f"{root}: there is only one class, {name}. {meant if len(below) > 1 else LAYOUT + ', for at least two classes'}"
    )


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


class Decoded(NamedTuple):
    """pixels (3, size, size) uint8 RGB; None for a file that cannot be read, with the reason in `why`. turned: it was rotated
    or mirrored as its EXIF data say. transparent: it was put on a white background."""

    pixels: np.ndarray | None
    why: str = ""
    turned: bool = False
    transparent: bool = False


def decode(path: str, size: int) -> Decoded:
    """What a viewer would show, in RGB: the shorter side resized to `size` with antialiasing, then a center crop."""
    try:
        with Image.open(path) as image:
            if image.mode.startswith(("I", "F")):  # PIL would clip its values at 255
                return Decoded(None, f"more than 8 bits per channel, mode {image.mode}")
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) in range(2, 9)
            upright = ImageOps.exif_transpose(image) if turned else image
            transparent = upright.has_transparency_data and np.asarray(upright.convert("RGBA"))[..., 3].min() < 255
            if transparent:  # below a transparent pixel there may be any color
                layer = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
            resized = transforms.resize(upright.convert("RGB"), [size], antialias=True)
            pixels = transforms.pil_to_tensor(transforms.center_crop(resized, [size])).contiguous().numpy()
            return Decoded(pixels, turned=turned, transparent=transparent)
    except Exception as error:  # PIL's errors for corrupt files have no common base
        unknown = isinstance(error, Image.UnidentifiedImageError)
        return Decoded(None, "not an image" if unknown else str(error) or type(error).__name__)


def decoded(files: list[tuple[str, int]], size: int, title: str) -> Iterator[tuple[Decoded, tuple[str, int]]]:
    """Yields each file, (path, class), as (decoded, the file)."""
    with ThreadPoolExecutor() as pool:  # PIL decodes and resizes without holding the GIL
        for start in screen.track(range(0, len(files), CHUNK), title):
            part = files[start : start + CHUNK]
            yield from zip(pool.map(lambda file: decode(file[0], size), part), part)
