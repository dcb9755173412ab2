"""The table and the figure of this page, from the records beside it and bias_shift.csv:

python analysis/results/mnist-hinton2015/page.py [OUTPUTS ...] prints the table as markdown and draws errors.png.
"""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[0] = str(HERE.parents[2])

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from scipy import stats  # noqa: E402

from kdexp.report.comparing.table import errors  # noqa: E402
from kdexp.report.drawing.style import COLORS, GREY, MARKERS  # noqa: E402
from kdexp.report.reading.records import load  # noqa: E402

LARGE, SMALL = "mlp800_800", "mlp30_30"
EIGHT = "0 1 2 3 4 5 6 9"
PUBLISHED = {  # Hinton, Vinyals & Dean 2015, section 3: errors on the 10,000 test images
    ("teacher",): "67",
    (LARGE, "none"): "146",
    (LARGE, "T = 20"): "74",
    ("3", "errors"): "206",
    ("3", "errors_on_omitted"): "133",
    ("3", "test: errors"): "109",
    ("3", "test: errors_on_omitted"): "14",
    (EIGHT, "errors"): "4,730 (47.3 %)",
    (EIGHT, "test: errors"): "1,320 (13.2 %)",
}
SHIFTS = (
    ("", ""),
    ("held-out: ", ", biases raised, amount from held-out images"),
    ("test: ", ", biases raised, amount from the test images"),
)


def interval(values: pd.Series) -> tuple[float, float, float]:
    """(mean, low, high): the 95 % t interval of the mean over seeds; NaN for the bounds with fewer than two."""
    mean, count = values.mean(), len(values)
    half = stats.t.isf(0.025, count - 1) * values.std() / np.sqrt(count) if count > 1 else np.nan
    return mean, mean - half, mean + half


def line(what: str, values: pd.Series, published: str = "") -> str:
    mean, low, high = interval(values)
    bounds = f"{low:,.1f} .. {high:,.1f}" if np.isfinite(low) else ""
    spread = f"{values.std():,.1f}" if len(values) > 1 else ""
    return f"| {what} | {mean:,.1f} | {bounds} | {spread} | {len(values)} | {published} |"


def cells(runs: pd.DataFrame) -> dict[tuple, pd.Series]:
    """(student, "none" or "T = 20") -> the errors of its seeds, of students that saw all classes."""
    whole = runs[(runs.omit == "[]") & runs.student.isin([LARGE, SMALL])]
    name = np.where(whole.distill == "none", "none", "T = " + whole["distill.temperature"].map("{:g}".format))
    order = {LARGE: 0, SMALL: 1}
    found = whole.assign(row=name, large=whole.student.map(order)).groupby(
        ["large", "student", "distill", "distill.temperature", "row"], dropna=False
    )
    groups = sorted(found, key=lambda item: (item[0][0], item[0][2] != "none", item[0][3]))
    return {(student, row): group.errors for (_, student, _, _, row), group in groups}


def table(runs: pd.DataFrame, shifts: pd.DataFrame) -> list[str]:
    lines = ["| | errors, mean | 95 % interval | std | n | published |", "|---|---|---|---|---|---|"]
    teachers = runs[runs.student.str.startswith("mlp1200_1200")]
    lines.append(line("teacher", teachers.errors, PUBLISHED["teacher",]))
    for (student, row), values in cells(runs).items():
        units = student.removeprefix("mlp").replace("_", "-")
        lines.append(line(f"{units}, {row}", values, PUBLISHED.get((student, row), "")))
    for omit, what in (("3", "without threes"), (EIGHT, "only sevens and eights")):
        mine = shifts[(shifts.omit == omit) & (shifts.distill == "kd")]
        for prefix, how in SHIFTS if len(mine) else ():
            for column, part in (("errors", ""), ("errors_on_omitted", ", of these on the omitted classes")):
                published = PUBLISHED.get((omit, prefix + column), "")
                lines.append(line(f"{what}{how}{part}", mine[prefix + column], published))
    return lines


def figure(found: dict[tuple, pd.Series]) -> Figure:
    """Errors over the temperature, with the 95 % intervals of the means; the label-only student as a band."""
    drawn = Figure(figsize=(6.3, 3.2), layout="constrained")
    for number, (axes, student) in enumerate(zip(drawn.subplots(1, 2), (LARGE, SMALL)), start=1):
        points = [
            (float(row.removeprefix("T = ")), *interval(v))
            for (s, row), v in found.items()
            if s == student and row != "none"
        ]
        temperature, mean, low, high = np.array(points).T
        axes.errorbar(
            temperature, mean, [mean - low, high - mean], color=COLORS[number], marker=MARKERS[number], label="KD"
        )
        base, below, above = interval(found[student, "none"])
        axes.axhline(base, color=GREY, label="labels only", zorder=0)
        axes.axhspan(below, above, color=GREY, alpha=0.2, linewidth=0)
        axes.set_xscale("log")
        axes.set_xticks(temperature, [f"{one:g}" for one in temperature])
        axes.minorticks_off()
        axes.set(
            xlabel="temperature", ylabel="test errors", title=f"{student.removeprefix('mlp').replace('_', '-')} units"
        )
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    return drawn


def main(outputs: list[str], shifts: pd.DataFrame, picture: Path) -> None:
    runs = load(*outputs)
    runs = runs[runs.status == "done"].reset_index(drop=True)
    runs["errors"] = errors(runs)
    print("\n".join(table(runs, shifts)))
    figure(cells(runs)).savefig(picture, dpi=150)


if __name__ == "__main__":
    shifts = pd.read_csv(HERE / "bias_shift.csv", dtype={"omit": str})
    main(sys.argv[1:] or [str(HERE)], shifts, HERE / "errors.png")
