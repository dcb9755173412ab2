"""Your own images: a folder with train/CLASS/ and test/CLASS/, decoded once, on the first use."""

import functools
import json
from pathlib import Path

from kdexp import screen
from kdexp.datasets import DatasetError, cache
from kdexp.datasets.decoding import LAYOUT, first_of, list_images
from kdexp.record import seal

DECODING = 1  # counts up when the same files become other pixels: what was decoded before is not used then


def folder(
    data: str | Path,
    root: str | None = None,
    size: int = 64,
    content: str | None = None,
    in_memory_mb: float = 2048,
) -> tuple:
    """Training images, test images (N, 3, size, size) and remarks on them; a class for each folder in `root`/train.

    They are kept below `data`/folder. A file that is added or changed makes them be decoded anew, as does damage. What
    cannot be read is left out, which a remark says. More than `in_memory_mb` megabytes (2**20 bytes) are mapped from
    the disk, not loaded; of these only the number of bytes is checked. content: what they must be, as `measure` says.
    Raises DatasetError.
    """
    if isinstance(in_memory_mb, bool) or not isinstance(in_memory_mb, int | float) or not in_memory_mb >= 0:
        raise DatasetError(f"dataset.in_memory_mb={in_memory_mb}: must be a number, 0 or more")
    place, index = _kept(data, root, size)
    megabytes = sum(index["images"].values()) * 3 * size**2 / 2**20
    mapped = megabytes > in_memory_mb
    parts = cache.read(place, index, mapped)
    if not mapped and cache.content(parts) != index["content"]:
        place, index = _kept(data, root, size, damaged=True)
        parts = cache.read(place, index, mapped)
    if content not in (None, index["content"]):
        raise DatasetError(
            f"the images in {root} are not those that were asked for: their content is {index['content']}, not {content}. "
            "If they were changed meanwhile, type the same command again"
        )
    return *parts, *_remarks(place, index, megabytes if mapped else 0)


@functools.cache
def measure(data: str, root: str | None, size: int) -> dict:
    """What the images make known, looked up once in a process: `num_classes`, `classes` (names), `mean` and `std` of the
    training images, `content` (a digest of all images and labels), `images` (their numbers), `unreadable`. Raises
    DatasetError."""
    return _kept(data, root, size)[1]


def _kept(data: str | Path, root: str | None, size: int, damaged: bool = False) -> tuple[Path, dict]:
    """Where the decoded images are, and their index. damaged: they are there and not as they were written."""
    if root is None:
        raise DatasetError("it needs your images: dataset.root=DIR, with train/CLASS/ and test/CLASS/ inside")
    if type(size) is not int or size < 1:
        raise DatasetError(f"dataset.size={size}: must be a whole number of pixels, 1 or more")
    source = Path(str(root)).expanduser().resolve()
    if not source.is_dir():
        raise DatasetError(f"dataset.root={root}: there is no such folder. {LAYOUT}")
    listing = list_images(source)
    state = json.dumps([DECODING, str(source), size, listing.entries(source)])
    place = Path(data, "folder", seal.sha256(state.encode())[:16])
    if not damaged and (index := cache.read_index(place)):
        return place, index
    with cache.alone(place):
        index = {} if damaged else cache.read_index(place)  # another process may have made it meanwhile
        if not index and place.exists():
            screen.say(f"{place} is damaged: not all is as it was written")
        return place, index or cache.make(place, source, size, listing)


def _remarks(place: Path, index: dict, mapped_mb: float) -> list[str]:
    """What a reader of the numbers should know."""
    remarks, unreadable, others = [], index["unreadable"], index["others"]
    if unreadable:
        files = f"{len(unreadable):,} file{'s' * (len(unreadable) != 1)} below {index['root']}"
        remarks.append(f"{files} cannot be read and {'is' if len(unreadable) == 1 else 'are'} left out: ")
        remarks[-1] += first_of(unreadable)
        if len(unreadable) > 10:
            remarks[-1] += f" (all: {place / 'index.json'})"
    if others:
        endings = ", ".join(f"{count:,} {ending or 'without an ending'}" for ending, count in sorted(others.items()))
        remarks.append(f"files that are no images by their endings are left out: {endings}")
    if mapped_mb:
        remarks.append(
            f"{mapped_mb:,.0f} MB of images are mapped from {place}, not loaded: more than dataset.in_memory_mb "
            "(dataset.validation loads them)"
        )
    return remarks
