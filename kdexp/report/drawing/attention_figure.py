"""Attention maps, drawn as in Zagoruyko & Komodakis 2017."""

import matplotlib
import numpy as np
from matplotlib.figure import Figure

CELL, GAP, APART = 32, 2, 8  # pixels: size of a map, gap between maps, gap between stages


def mosaic(images: np.ndarray, maps: dict[str, dict[str, np.ndarray]]) -> tuple[np.ndarray, list[str]]:
    """(picture (height, width, 3) in 0..1, stages from left to right): the images on top of each stage, then a row for each
    network. images: (N, 3, H, W) uint8. maps: network -> stage -> (N, H, W); stages that a network lacks stay blank."""
    stages = sorted({stage for found in maps.values() for stage in found})
    top = [_cell(image.transpose(1, 2, 0) / 255) for image in images]
    blank = [np.ones((CELL, CELL, 3))] * len(images)
    lines = [[top] * len(stages)]
    for found in maps.values():
        lines.append([[_colored(one) for one in found[stage]] if stage in found else blank for stage in stages])
    return np.concatenate([_line(line) for line in lines]), stages


def _line(stages: list[list[np.ndarray]]) -> np.ndarray:
    """One row of cells, separated by white gaps."""
    padded = [[np.pad(cell, ((0, GAP), (0, GAP), (0, 0)), constant_values=1) for cell in cells] for cells in stages]
    groups = [np.pad(np.concatenate(cells, 1), ((0, 0), (0, APART), (0, 0)), constant_values=1) for cells in padded]
    return np.concatenate(groups, 1)


def _colored(one: np.ndarray) -> np.ndarray:
    """A map (H, W) -> a cell, scaled from zero to its own maximum, in 16 colors to keep the file small."""
    return matplotlib.colormaps["inferno"].resampled(16)(_cell(one / (one.max() or 1)))[..., :3]


def _cell(one: np.ndarray) -> np.ndarray:
    """Resize (H, W, ...) to (32, 32, ...), nearest neighbor."""
    rows, columns = (np.arange(CELL) * size // CELL for size in one.shape[:2])
    return one[rows][:, columns]


def attention_figure(images: np.ndarray, maps: dict[str, dict[str, np.ndarray]], title: str) -> Figure:
    """Where each network looks, stage by stage, with the teacher on top. See `mosaic`."""
    picture, stages = mosaic(images, maps)
    height, width = picture.shape[:2]
    figure = Figure(figsize=(8.6, 7.5 * height / width + 0.5))  # 1.1 inches for the names
    axes = figure.add_subplot()
    axes.imshow(picture, interpolation="none")
    step = CELL + GAP
    axes.set_yticks(np.arange(len(maps) + 1) * step + CELL / 2, ["image", *maps])
    group = len(images) * step + APART
    axes.set_xticks(
        np.arange(len(stages)) * group + (group - APART) / 2, [stage.replace("stage", "stage ") for stage in stages]
    )
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(title)
    return figure
