"""Figures of what trained networks know: how confident they are, which classes they confuse, which classes go together."""

from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from kdexp.report.comparing.networks import BINS, Correlations, Reliability
from kdexp.report.drawing.style import close_to_most, ink

WIDTH = 8.2  # inches available for panels
FEW = 10  # bins with fewer images than this are drawn pale
MOST = 15  # disagreements shown
CELL, GAP, APART = 32, 2, 8  # pixels: size of a map, gap between maps, gap between stages


def panels(names: list[str], side: float, title: str) -> tuple[Figure, dict]:
    """A square panel for each name, as many per row as fit: (figure, axes by name). side: of one panel, in inches."""
    columns = min(int(WIDTH / side), len(names))
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(side * columns + 0.7, side * lines + 0.5), layout="compressed")
    axes = [*figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flat]
    for empty in axes[len(names) :]:
        empty.remove()
    figure.suptitle(title, x=0.01, ha="left", fontsize=9)
    return figure, dict(zip(names, axes))


def reliability_diagrams(bins: dict[str, Reliability], ece: dict[str, float], title: str) -> Figure:
    """Accuracy of the images in each confidence bin; on the diagonal, accuracy equals confidence. bins: by name. ece:
    expected calibration error, percent, by name."""
    figure, axes = panels(list(bins), 1.62, title)
    for name, part in axes.items():
        images, _, right = bins[name]
        seen = images > 0
        colors = np.where(images[seen] < FEW, "#b3d4ea", "#0072B2")
        left, height = 100 * np.flatnonzero(seen) / BINS, 100 * right[seen] / images[seen]
        part.bar(left, height, 94 / BINS, align="edge", color=colors)
        part.plot([0, 100], [0, 100], color="#D55E00", linewidth=0.9)
        part.set_title(f"{name}: {ece[name]:.1f}" if name in ece else name, fontsize=8)
        part.set(xlim=(0, 100), ylim=(0, 100), xticks=(0, 50, 100), yticks=(0, 50, 100), aspect="equal")
    figure.supxlabel("confidence, %   (number: expected calibration error, %)", fontsize=9)
    figure.supylabel("accuracy, %", fontsize=9)
    return figure


def disagreement_map(table: pd.DataFrame, title: str) -> Figure:
    """The most frequent disagreements as rows, methods as columns. table: of `disagreements`."""
    shown = table.head(MOST)
    most = pd.Series(shown.to_numpy().ravel())
    figure = Figure(figsize=(6.3, 1.1 + 0.22 * len(shown)))
    axes = figure.add_subplot()
    limits: dict[str, Any] = {"vmin": 0, "vmax": most[close_to_most(most)].max() or 1}
    image = axes.imshow(shown, aspect="auto", interpolation="none", cmap="Blues", **limits)
    for (row, column), value in np.ndenumerate(shown.to_numpy()):
        shade: Any = image.norm(value)
        look = ink(image, value) | {"color": "white" if shade > 0.6 else "black"}
        axes.text(column, row, f"{value:.1f}" if value else "", fontsize=7, **look)
    axes.set_yticks(range(len(shown)), [f"{teacher} → {student}" for teacher, student in shown.index], fontsize=8)
    axes.set_xticks(range(shown.shape[1]), shown.columns, rotation=30 if shown.shape[1] > 6 else 0, fontsize=8)
    axes.set(xlabel="of 1,000 test images, mean over seeds", ylabel="class: teacher → student")
    axes.set_title(title)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def correlation_maps(maps: dict[str, Correlations], title: str) -> Figure:
    """Student's minus teacher's class correlations, a square for each row; blue: two classes are more alike for the student
    than for its teacher."""
    classes = len(next(iter(maps.values())).difference)
    figure, axes = panels(list(maps), 1.62 if classes <= 20 else 2.7, title)
    far = float(np.nanpercentile(np.abs([shown.difference for shown in maps.values()]), 95)) or 1.0
    colors = matplotlib.colormaps["RdBu"].resampled(11)  # few colors keep the file small
    for name, part in axes.items():
        image = part.imshow(maps[name].difference, cmap=colors, vmin=-far, vmax=far, interpolation="none")
        part.set_title(f"{name}: {maps[name].distance:.3f}", fontsize=8)
        for axis in (part.xaxis, part.yaxis):
            axis.set_major_locator(MaxNLocator(5, integer=True))
        part.tick_params(labelsize=7)
    figure.colorbar(image, ax=list(axes.values()), aspect=30, extend="both", label="student − teacher")
    figure.supxlabel("class   (number: mean absolute difference)", fontsize=9)
    figure.supylabel("class", fontsize=9)
    return figure


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
