"""Our numbers next to published ones for the same data set, pair and method (kdexp/report/published.csv).

Accuracies from different recipes, teachers and statistics are not comparable, so each source's gains over its own baseline
are shown as well.
"""

import json

import numpy as np
import pandas as pd
from rich.console import Console

from kdexp.report.comparing.literature import distances
from kdexp.report.reading.published import load, method
from kdexp.report.reading.settings import BASELINE
from kdexp.report.showing import labels
from kdexp.report.showing.output import WIDTH, screen

RECIPES = {"RepDistiller README": "crd240", "overhaul-distillation README": "od200"}
COLUMNS = [
    "dataset",
    "teacher",
    "student",
    "method",
    "mean",
    "n",
    "gain",
    "low",
    "high",
    "top1",
    "published_gain",
    "same_recipe",
    "runs",
    "statistic",
    "source",
    "note",
]


def beside(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each published number of a block's methods, teacher and baseline: ours (mean, n, gain), theirs (top1,
    published_gain, runs, statistic, source, note), and whether the recipe is the same. Empty if there are none."""
    published, first = load(), rows.iloc[0]
    teacher = labels.teacher_of(rows)
    same = published[published.dataset == first.dataset]
    ours = [
        (
            row.label,
            BASELINE if row.distill == BASELINE else method(row.label),
            *row[["mean", "n", "gain", "low", "high"]],
        )
        for _, row in rows.iterrows()
        if row.n
    ]
    found = []
    for label, name, mean, n, gain, low, high in [
        ("teacher", BASELINE, labels.teacher_accuracy(rows), *[np.nan] * 4),
        *ours,
    ]:
        student = teacher if label == "teacher" else first.student
        pair = teacher if name != BASELINE else ""
        for row in same[(same.student == student) & (same.teacher == pair) & (same.method == name)].to_dict("records"):
            numbers = {
                "method": label,
                "mean": mean,
                "n": n,
                "gain": gain,
                "low": low,
                "high": high,
                "same_recipe": RECIPES.get(row["source"], "") == recipe(rows),
            }
            found.append({**row, **numbers, "teacher": teacher, "student": student})
    return pd.DataFrame(found, columns=COLUMNS)


def recipe(rows: pd.DataFrame) -> str | None:
    """The recipe of a block if it was run unchanged: all images, and its own epochs, batch size and learning rate; else None."""
    shared = json.loads(rows.shared_settings.iloc[0])
    kept = all(shared.get(key) == shared.get(f"recipe.{key}") for key in ("epochs", "batch_size"))
    kept &= shared.get("optimizer.lr") == shared.get("recipe.lr")
    kept &= not any(shared.get(f"dataset.{key}") for key in ("limit", "limit_test", "validation"))
    return shared.get("recipe") if kept else None


def every_pair(table: pd.DataFrame) -> pd.DataFrame:
    """`beside` for all pairs."""
    found = [one for rows in labels.pairs(table) if len(one := beside(rows))]
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=COLUMNS)


def print_beside(table: pd.DataFrame) -> pd.DataFrame:
    """Print each pair's comparison to stdout, with rows of other recipes in gray; returns all of them."""
    console, parts = Console(highlight=False, soft_wrap=True), []
    for rows in labels.pairs(table):
        found = beside(rows)
        console.print(f"{labels.heading(rows)}   compared with published numbers", style="bold", markup=False)
        if found.empty:
            console.print("  no published numbers for this data set, pair and these methods\n")
            continue
        parts.append(found)
        styles = [None if same else "bright_black" for same in found.same_recipe]
        console.print(screen(text(found), None, styles), width=WIDTH, crop=False)
        console.print(words_below(found) + "\n", markup=False)
    found = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)
    apart = distances(found)
    if len(apart):
        console.print(
            "our gains against theirs: mean absolute difference over the shared pairs", style="bold", markup=False
        )
        console.print(screen(distances_text(apart), None), width=WIDTH, crop=False)
        console.print("")
    return found


def distances_text(apart: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "method": apart.method,
            "pairs": apart.pairs.astype(str),
            "apart": apart.distance.map(number),
            "ours - theirs": apart.difference.map(lambda value: number(value, "+")),
            "recipe": apart.same_recipe.map({True: "the same", False: "another"}),
            "source": apart.source,
        }
    )


def text(found: pd.DataFrame) -> pd.DataFrame:
    """The comparison as shown: our number and gain, theirs and its gain."""
    columns = {
        "method": found.method,
        "ours": found["mean"].map(number),
        "gain": found.gain.map(lambda value: number(value, "+")),
        "published": found.top1.map(number),
        "their gain": found.published_gain.map(lambda value: number(value, "+")),
        "runs": found.runs.map(lambda value: "" if pd.isna(value) else f"{value:.0f}"),
        "statistic": found.statistic,
        "source": found.source,
    }
    return pd.DataFrame(columns)


def words_below(found: pd.DataFrame) -> str:
    """How many of the rows use the same recipe, and what that means."""
    count = int(found.same_recipe.sum())
    grey = " (gray)" if count < len(found) else ""
    return (
        f"  {count} of {len(found)} rows use the same recipe; the others{grey} differ in more than the code. "
        "Compare gains, not levels."
    )


def number(value: float, sign: str = "") -> str:
    return "" if pd.isna(value) else f"{value:{sign}.2f}"
