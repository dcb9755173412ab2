"""Our numbers next to published ones for the same data set, pair and method (kdexp/report/published.csv).

Accuracies from different recipes, teachers and statistics are not comparable, so each source's gains over its own baseline
are shown as well.
"""

import json

import pandas as pd
from rich.console import Console

from kdexp.report.reading.published import load, method
from kdexp.report.reading.settings import BASELINE
from kdexp.report.showing import labels
from kdexp.report.showing.output import WIDTH, screen, show

RECIPES = {"RepDistiller README": "crd240", "overhaul-distillation README": "od200"}
COLUMNS = [
    *("dataset", "teacher", "student", "method", "mean", "n", "gain", "low", "high"),  # ours
    *("top1", "published_gain", "same_recipe", "runs", "statistic", "source", "note"),  # theirs
]


def beside(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each published number of a block's methods, teacher and baseline: ours (mean, n, gain), theirs (top1,
    published_gain, runs, statistic, source, note), and whether the recipe is the same. Empty if there are none."""
    published, first = load(), rows.iloc[0]
    teacher = labels.teacher_of(rows)
    same = published[published.dataset == first.dataset]
    numbers = rows[rows.n > 0][["label", "distill", "mean", "n", "gain", "low", "high"]].to_dict("records")
    of_teacher = {"label": "teacher", "distill": BASELINE, "mean": labels.teacher_accuracy(rows)}
    cells = []
    for ours in [of_teacher, *numbers]:
        alone = ours["distill"] == BASELINE
        name = BASELINE if alone else method(ours["label"])
        student = teacher if ours is of_teacher else first.student
        pair = "" if alone else teacher
        for row in same[(same.student == student) & (same.teacher == pair) & (same.method == name)].to_dict("records"):
            same_recipe = RECIPES.get(row["source"], "") == recipe(rows)
            of_pair = {"teacher": teacher, "student": student, "method": ours["label"], "same_recipe": same_recipe}
            cells.append({**row, **ours, **of_pair})
    return pd.DataFrame(cells, columns=COLUMNS)


def recipe(rows: pd.DataFrame) -> str | None:
    """The recipe of a block if it was run unchanged: all images, and its own epochs, batch size and learning rate; else None."""
    shared = json.loads(rows.shared_settings.iloc[0])
    kept = all(shared.get(key) == shared.get(f"recipe.{key}") for key in ("epochs", "batch_size"))
    kept &= shared.get("optimizer.lr") == shared.get("recipe.lr")
    kept &= not any(shared.get(f"dataset.{key}") for key in ("limit", "limit_test", "validation"))
    return shared.get("recipe") if kept else None


def print_beside(table: pd.DataFrame) -> pd.DataFrame:
    """Print each pair's comparison to stdout, with rows of other recipes in gray; returns all of them."""
    console, parts = Console(highlight=False, soft_wrap=True), []
    for rows in labels.pairs(table):
        cells = beside(rows)
        console.print(f"{labels.heading(rows)}   compared with published numbers", style="bold", markup=False)
        if cells.empty:
            console.print("  no published numbers for this data set, pair and these methods\n")
            continue
        parts.append(cells)
        styles = [None if same else "bright_black" for same in cells.same_recipe]
        console.print(screen(text(cells), None, styles), width=WIDTH, crop=False)
        console.print(words_below(cells) + "\n", markup=False)
    every = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)
    apart = distances(every)
    if len(apart):
        heading = "our gains against theirs: mean absolute difference over the shared pairs"
        console.print(heading, style="bold", markup=False)
        show(console, distances_text(apart))
    return every


def distances(cells: pd.DataFrame) -> pd.DataFrame:
    """Summarizes the rows of `beside`, over any number of pairs, into a row for each method and source: pairs (with both
    gains), distance (mean absolute difference of the gains, points), difference (mean of ours - theirs), same_recipe. If a
    source has several numbers for one cell, their mean counts."""
    known = cells[cells.gain.notna() & cells.published_gain.notna()]
    if known.empty:
        return pd.DataFrame(columns=["method", "source", "pairs", "distance", "difference", "same_recipe"])
    means = {"gain": "mean", "published_gain": "mean", "same_recipe": "all"}
    cells = known.groupby(["method", "source", "dataset", "teacher", "student"], sort=False).agg(means)
    difference = cells.gain.astype(float) - cells.published_gain
    cells = cells.assign(pairs=1, distance=difference.abs(), difference=difference)
    over_pairs = {"pairs": "sum", "distance": "mean", "difference": "mean", "same_recipe": "all"}
    return cells.groupby(level=["method", "source"], sort=False).agg(over_pairs).reset_index()


def distances_text(apart: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "method": apart.method,
            "pairs": apart.pairs.astype(str),
            "apart": apart.distance.map("{:.2f}".format),
            "ours - theirs": apart.difference.map("{:+.2f}".format),
            "recipe": apart.same_recipe.map({True: "the same", False: "another"}),
            "source": apart.source,
        }
    )


def text(cells: pd.DataFrame) -> pd.DataFrame:
    """The comparison as shown: our number and gain, theirs and its gain."""
    known = lambda column, form: ["" if pd.isna(value) else format(value, form) for value in cells[column]]
    columns = {
        "method": cells.method,
        "ours": known("mean", ".2f"),
        "gain": known("gain", "+.2f"),
        "published": known("top1", ".2f"),
        "their gain": known("published_gain", "+.2f"),
        "runs": known("runs", ".0f"),
        "statistic": cells.statistic,
        "source": cells.source,
    }
    return pd.DataFrame(columns)


def words_below(cells: pd.DataFrame) -> str:
    """How many of the rows use the same recipe, and what that means."""
    count = int(cells.same_recipe.sum())
    grey = " (gray)" if count < len(cells) else ""
    return (
        f"  {count} of {len(cells)} rows use the same recipe; the others{grey} differ in more than the code. "
        "Compare gains, not levels."
    )
