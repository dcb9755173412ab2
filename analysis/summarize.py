"""Records -> the table: `python analysis/summarize.py [OUTPUTS ...]`, or `load` and `summarize` from a notebook.

Numbers come from result.json, states from status.json, settings from config.yaml; never from folder names or logs.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import pandas as pd
import yaml
from rich.console import Console
from rich.table import Table

ORDER = ("none", "kd", "fn", "nst", "at", "rkd", "sp", "od")  # as papers list them; others follow by name
TERMS = (
    "dataset",
    "recipe",
    "optimizer",
    "epochs",
    "batch_size",
    "deterministic",
    "tag",
)  # a run and its baseline agree in these
KEYS = ["dataset", "teacher", "student", "distill", "terms", "own"]
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load(*outputs: str | Path) -> pd.DataFrame:
    """A row per run below the outputs folders: result.json's fields, `status`, `folder`, `label`, `note`, `terms`,
    `own`.

    terms: the settings that a run shares with its baseline. own: those of its method and teacher. Damaged records
    are named and skipped.
    """
    rows = []
    for status in sorted(path for folder in outputs for path in Path(folder).rglob("status.json")):
        try:
            rows.append(_row(status.parent))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError) as error:
            print(
                f"left out: {status.parent} is no whole record ({type(error).__name__}: {str(error).splitlines()[0]})",
                file=sys.stderr,
            )
    return pd.DataFrame(rows)


def _row(folder: Path) -> dict:
    status = json.loads((folder / "status.json").read_text())["status"]
    config = yaml.load((folder / "config.yaml").read_text(), LOADER)
    method, teacher = config["distill"], config["model"]["teacher"]
    result = json.loads((folder / "result.json").read_text()) if status == "done" else {}
    # resolved, not as asked for: what ran in bf16 on CUDA is not averaged with what ran in fp32 on a CPU
    terms = {key: config[key] for key in TERMS} | {"precision": result.get("precision")}
    terms["device"] = str(result.get("device", "")).partition(":")[0].partition(" ")[0]
    own = {key: value for key, value in method.items() if key not in ("label", "note", "name", "_target_")}
    own |= {key: config[key] for key in ("teacher_seed",)} | {
        "teacher_checkpoint": result.get("teacher_checkpoint_sha256")
    }
    found = {
        "dataset": config["dataset"]["name"],
        "teacher": teacher and teacher["name"],
        "student": config["model"]["student"]["name"],
        "distill": method["name"],
        "seed": config["seed"],
    }
    if result and any(result[key] != value for key, value in found.items()):
        raise ValueError("result.json and config.yaml are of different runs")
    return {
        **result,
        **found,
        "status": status,
        "folder": str(folder),
        "label": method["label"] + ("+KD" if method["kd_weight"] else ""),
        "note": method["note"],
        "teacher": found["teacher"] or "",
        "test_acc": float(result["test_acc"]) if result else None,
        "terms": json.dumps(terms, sort_keys=True),
        "own": json.dumps(own, sort_keys=True),
    }


def summarize(runs: pd.DataFrame) -> pd.DataFrame:
    """A row per dataset, teacher, student, method and settings, over seeds: n, mean and std of the last epoch's test
    accuracy in percent, the teacher's accuracy, the baseline's mean and the gain over it in points. std is empty for
    n = 1."""
    done = runs[runs.status == "done"]
    table = (
        done.groupby(KEYS, sort=False)
        .agg(
            n=("test_acc", "size"),
            mean=("test_acc", "mean"),
            std=("test_acc", "std"),
            teacher_acc=("teacher_test_acc", "mean"),
            label=("label", "first"),
            note=("note", "first"),
            variant=("variant", "first"),
        )
        .reset_index()
    )
    baseline = table[table.distill == "none"].set_index(["dataset", "student", "terms"])["mean"]
    found = [baseline.get(key) for key in zip(table.dataset, table.student, table.terms)]
    table["baseline"] = pd.Series(found, index=table.index, dtype=float)
    table["gain"] = (table["mean"] - table.baseline).where(table.distill != "none")
    rank = {name: position for position, name in enumerate(ORDER)}
    table["rank"] = table.distill.map(lambda name: rank.get(name, len(ORDER)))
    return table.sort_values(
        ["dataset", "teacher", "student", "terms", "rank", "distill", "variant"], ignore_index=True
    )


def pairs(table: pd.DataFrame):
    """(heading, rows) for each dataset, teacher -> student and settings; the baseline's row stands first in each of
    its pairs."""
    for (dataset, teacher, student, terms), rows in table[table.teacher != ""].groupby(
        ["dataset", "teacher", "student", "terms"], sort=False
    ):
        baseline = table[
            (table.distill == "none") & (table.dataset == dataset) & (table.student == student) & (table.terms == terms)
        ]
        variant = baseline.variant.iloc[0] if len(baseline) else rows.variant.min()
        heading = f"{dataset}   {teacher} ({rows.teacher_acc.mean():.2f}) -> {student}   test accuracy, last epoch, %   {variant}"
        yield heading, pd.concat([baseline, rows])


def screen_table(heading: str, rows: pd.DataFrame) -> Table:
    """One pair as a table of the terminal."""
    screen = Table(
        title=heading, title_justify="left", box=None, title_style="bold", pad_edge=False, padding=(0, 3, 0, 0)
    )
    several = rows.groupby("label").size().max() > 1
    for name in ("method", "mean", "std", "n", "gain over none"):
        screen.add_column(name, justify="left" if name == "method" else "right", no_wrap=True)
    for row in rows.itertuples():
        label = f"{row.label}   {row.variant}" if several else row.label
        screen.add_row(
            label,
            f"{row.mean:.2f}",
            "" if pd.isna(row.std) else f"{row.std:.2f}",
            str(row.n),
            "" if pd.isna(row.gain) else f"{row.gain:+.2f}",
        )
    return screen


def print_table(table: pd.DataFrame, runs: pd.DataFrame) -> None:
    """Every pair, its footnotes, and what is missing with the command that makes it; on stdout."""
    console = Console(highlight=False, soft_wrap=True)
    for heading, rows in pairs(table):
        console.print(screen_table(heading, rows), "")
        for note in dict.fromkeys(
            f"{row.label}: {row.note}" for row in rows.itertuples() if row.note and row.distill != "none"
        ):
            console.print(f"  {note}", markup=False)
        if rows.baseline.isna().any():
            console.print(f"  The baseline is missing: {baseline_command(rows.iloc[0])}", markup=False)
        console.print("")
    taught = table[table.teacher != ""]
    shown = {(row.dataset, name, row.terms) for row in taught.itertuples() for name in (row.student, row.teacher)}
    for row in table[table.teacher == ""].itertuples():
        if (row.dataset, row.student, row.terms) not in shown:
            console.print(
                f"{row.dataset}   {row.student} trained on the labels alone: {row.mean:.2f} % (n={row.n})   {row.variant}",
                markup=False,
            )
    for row in runs[runs.status != "done"].itertuples():
        console.print(f"{row.status}: {row.folder}", markup=False)


def baseline_command(row) -> str:
    """The command that trains the baseline of a row, on its terms."""
    parts = [
        part for part in row.variant.split(",") if part != "base" and not part.startswith(("distill.", "teacher_"))
    ]
    seeds = ",".join(str(seed) for seed in range(1, row.n + 1))
    return " ".join(
        ["python run.py -m distill=none", f"dataset={row.dataset}", f"student={row.student}", f"seed={seeds}", *parts]
    )


def columns(table: pd.DataFrame) -> pd.DataFrame:
    """The table as it is written to files."""
    return table[
        [
            "dataset",
            "teacher",
            "student",
            "distill",
            "label",
            "variant",
            "n",
            "mean",
            "std",
            "teacher_acc",
            "baseline",
            "gain",
            "note",
        ]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description="The table of the records below OUTPUTS: on screen, as summary.csv and as summary.md."
    )
    parser.add_argument(
        "outputs",
        nargs="*",
        default=[os.environ.get("KDEXP_OUTPUTS", "outputs")],
        help="folders of records",
    )
    parser.add_argument("--out", help="where to write summary.csv and summary.md (default: the first outputs folder)")
    arguments = parser.parse_args()
    runs = load(*arguments.outputs)
    if runs.empty or not (runs.status == "done").any():
        sys.exit(f"no finished runs in {', '.join(arguments.outputs)}. Make some: python run.py sweep=quickstart")
    table, out = summarize(runs), Path(arguments.out or arguments.outputs[0])
    print_table(table, runs)
    out.mkdir(parents=True, exist_ok=True)
    columns(table).to_csv(out / "summary.csv", index=False)
    (out / "summary.md").write_text(columns(table).round(2).to_markdown(index=False) + "\n")
    print(f"{out / 'summary.csv'}   {out / 'summary.md'}", file=sys.stderr)


if __name__ == "__main__":
    main()
