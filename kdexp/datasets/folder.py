"""Your own images: a folder with train/CLASS/ and test/CLASS/, decoded once, on first use."""

import functools
import json
from pathlib import Path

from kdexp import screen
from kdexp.datasets import DatasetError, cache
from kdexp.datasets.decoding import LAYOUT, first_of, list_images
from kdexp.storage import seal

DECODING = 2  # bump this when the same files decode to different pixels: old caches are then ignored


def folder(
    data: str | Path,
    root: str | None = None,
    size: int = 64,
    content: str | None = None,
    in_memory_mb: float = 2048,
) -> tuple:
    """Training images, test images (N, 3, size, size) and remarks on them; one class for each folder in `root`/train.

    Decoded images are cached below `data`/folder. They are decoded again if a file was added or changed or the cache is
    corrupt. Unreadable files are skipped, and a remark names them. More than `in_memory_mb` megabytes (2**20 bytes) are
    memory-mapped instead of loaded, with only the number of bytes checked. content: the digest that the images must
    have, see `measure`. Raises DatasetError.
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
            f"the images in {root} are not the ones this run asked for: their content is {index['content']}, not {content}. "
            "If they were changed in the meantime, type the same command again"
        )
    return *parts, *_remarks(place, index, megabytes if mapped else 0)


@functools.cache
def measure(data: str, root: str | None, size: int) -> dict:
    """What can be measured on the images, once per process: `num_classes`, `classes` (names), `mean` and `std` of the
    training images, `content` (a digest of all images and labels), `images` (their numbers), `unreadable`. Raises
    DatasetError."""
    return _kept(data, root, size)[1]


def _kept(data: str | Path, root: str | None, size: int, damaged: bool = False) -> tuple[Path, dict]:
    """Where the decoded images are, and their index. damaged: the cache is known to be corrupt."""
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
    with cache.locked(place):
        index = {} if damaged else cache.read_index(place)  # another process may have made it in the meantime
        if not index and place.exists():
            screen.say(f"{place} is corrupt: its files are not what was written")
        return place, index or cache.make(place, source, size, listing)


def _remarks(place: Path, index: dict, mapped_mb: float) -> list[str]:
    """Remarks on the data that matter for the numbers."""
    remarks, unreadable, others = [], index["unreadable"], index["others"]
    if unreadable:
        files = f"{screen.counted(len(unreadable), 'file')} below {index['root']}"
        verb = "is" if len(unreadable) == 1 else "are"
        where = f" (all: {place / 'index.json'})" if len(unreadable) > 10 else ""
        remarks.append(f"{files} cannot be read and {verb} skipped: {first_of(unreadable)}{where}")
    if others:
        endings = ", ".join(f"{count:,} {ending or 'without an extension'}" for ending, count in sorted(others.items()))
        remarks.append(f"files without an image extension are skipped: {endings}")
    if skipped := index["skipped"]:
        remarks.append(f"hidden and system folders, and links back into the images, are skipped: {first_of(skipped)}")
    if turned := index["changed"].get("turned"):
        remarks.append(f"{screen.counted(turned, 'image')} turned upright, as EXIF data say")
    if transparent := index["changed"].get("transparent"):
        remarks.append(f"{screen.counted(transparent, 'transparent image')} put on a white background")
    if mapped_mb:
        remarks.append(
            f"{mapped_mb:,.0f} MB of images are mapped from {place} instead of loaded: more than dataset.in_memory_mb "
            "(dataset.validation loads them)"
        )
    return remarks
