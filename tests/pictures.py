"""A folder of images made by hand: PNGs of mixed sizes and modes, a class for each colour, some of them broken."""

import random

from PIL import Image

MODES = ("RGB", "L", "P", "RGBA")
COLORS = {"blue": (40, 60, 220), "green": (60, 200, 80), "red": (230, 50, 40)}


def make(folder, train=40, test=20, broken=("truncated.png", "empty.png", "text.png"), seed=0):
    """train, test: images of each class. The broken ones, of these names, lie in train/red. Returns their paths."""
    draw = random.Random(seed)
    for split, count in (("train", train), ("test", test)):
        for name, colour in COLORS.items():
            place = folder / split / name
            place.mkdir(parents=True, exist_ok=True)
            for number in range(count):
                size = (draw.randint(12, 90), draw.randint(12, 90))
                noise = Image.frombytes("RGB", size, draw.randbytes(3 * size[0] * size[1]))
                image = Image.blend(noise, Image.new("RGB", size, colour), 0.6)
                image.convert(MODES[number % 4]).save(place / f"{number}.png")
    whole = (folder / "train" / "red" / "0.png").read_bytes()
    contents = {"truncated.png": whole[: len(whole) // 2], "empty.png": b"", "text.png": b"not an image at all\n"}
    paths = [folder / "train" / "red" / name for name in broken]
    for path in paths:
        path.write_bytes(contents[path.name])
    return paths
