"""Runs -> the table: a row per method and settings of each dataset and pair, with what can be claimed about it."""

import json

import numpy as np
import pandas as pd

from kdexp.report.comparing.block import SAME, block
from kdexp.report.comparing.images import COLUMNS as IMAGES
from kdexp.report.comparing.images import Right, from_records
from kdexp.report.reading import arrays
from kdexp.report.reading.settings import differing

METRICS = {
    "test_acc": "test accuracy, last epoch, %",
    "best_test_acc": "test accuracy, best epoch, % (chosen on the test set: not for claims)",
    "errors": "test errors, last epoch",
    "test_top5": "top-5 test accuracy, last epoch, %",
    "val_acc": "validation accuracy, last epoch, %",
    "test_loss": "test loss, last epoch",
    "seconds": "training time, s",  # this and the next two: only of students trained alone, share=1
    "seconds_per_epoch": "training time of an epoch, s",
    "peak_memory_mb": "peak memory, MiB",
    "test_acc_best_val": "test accuracy, epoch of the best validation accuracy, %",
    "ece": "expected calibration error, last epoch, %",
    "brier": "Brier score, last epoch",
    "nll": "negative log likelihood, last epoch",
    "kl_teacher": "KL to the teacher, T = 1",
    "kl_teacher_t4": "KL to the teacher, T = 4",
    "agreement": "agreement with the teacher, %",
    "agreement_wrong": "agreement where the teacher is wrong, %",
}
LOWER_IS_BETTER = ("errors", "loss", "seconds", "memory", "params", "ece", "brier", "nll", "kl_")
CLASS = "class_acc."  # and the class: of runs with omitted classes
FIRST = ["dataset", "teacher", "student", "distill", "n", "mean", "std"]
LAST = [
    *("label", "of", "state", "teacher_acc", "teacher_accs"),
    *("baseline", "gain", "low", "high", "p", "test", "paired_p"),
    *("over_kd", "over_kd_low", "over_kd_high", "over_kd_p", "best", "metric", "over", "sigma", "df", "resolves"),
    *IMAGES,
    *("note", "variant"),
]
HIDDEN = [  # for the screen and the page, not for files
    *("control", "ranked", "wide", "apart", "open", "one_way", "block", "wanted", "lacking"),
    *("noisy", "more", "saved", "resolves_methods"),
    *("shared_settings", "method_settings", "weights", "replaced", "untraced", "words"),
]


def is_percent(metric: str) -> bool:
    return metric.endswith(("acc", "top5", "ece", "best_val")) or metric.startswith(("agreement", CLASS))


def lower_is_better(metric: str) -> bool:
    return any(word in metric for word in LOWER_IS_BETTER)


def summarize(
    runs: pd.DataFrame, metric: str = "test_acc", over: str = "seed", data: str | None = None
) -> pd.DataFrame:
    """The table of these runs: blocks (dataset, teacher, its weights if there are several, student, shared_settings) stacked,
    the baseline first in each.

    metric: a numeric column of `runs`, or "errors". over: what varies: "seed"; "teacher" for teacher draws
    (teacher_seed, checkpoint), each the mean over its seeds; or "images", which is "seed" with the interval over images
    shown as well. data: a folder of data sets; with "images", their labels are used for runs without right.npy.

    n, mean, std: over what varies. of, state: how many values there should be (the most that any method of the block has),
    and why some are missing. teacher_acc: of the teacher, if all runs of the row have one of the same accuracy; teacher_accs: of
    each. gain, low, high, p: over the baseline, in units of the metric, with the simultaneous 95 %
    interval. over_kd...: the same over KD. low_images, high_images: the interval over seeds and images; images_alone,
    images_lasting: half-widths of the uncertainty due to images with this many seeds, and with any number of seeds;
    test_images: how many. paired_p: plain paired t. test: "model", "noisy baseline" (it has its own noise), "log
    odds", or why Welch's t was used. best: may be the best. sigma, df: the noise. resolves: the gain detected with 80 % power.
    noisy: the baseline is noisier than the methods. more: seeds of the baseline that no method has; `baseline` is its mean
    with these. saved: the share of its variance that they remove. Columns named like settings: what differs
    among the rows of a pair. See kdexp/report/comparing/comparisons.py and images.py.

    Label-only networks that are no student's baseline follow as blocks of one row. Raises ValueError if the metric is not
    a number, and for "images" if nothing is known about them.
    """
    measured, sign = _measured(runs, metric, over), -1 if lower_is_better(metric) else 1
    baselines: dict[tuple, list[dict]] = {}
    taught: dict[tuple, list[dict]] = {}
    for run in measured:
        key = (run["dataset"], run["student"], run["shared_settings"])
        which = taught if run["teacher"] else baselines
        which.setdefault((run["teacher"], run["weights"], key), []).append(run)
    how = (sign, is_percent(metric), _right(runs, metric, over, data))
    blocks = [block(group, baselines.get(("", "", key), []), *how) for (*_, key), group in taught.items()]
    used = {key for *_, key in taught}
    blocks += [block([], group, *how) for (*_, key), group in baselines.items() if key not in used]
    same = {"metric": metric, "over": over}
    rows = [{**row, "block": number, **same} for number, of_block in enumerate(blocks) for row in of_block]
    table = _with_settings(pd.DataFrame(rows))
    if over == "images" and table.test_images.isna().all():
        raise ValueError(
            "--over images: no method and its baseline have records of which images they got right. Runs of older "
            "versions have no right.npy; with --data DIR the labels are taken from the data set"
        )
    return table[[*FIRST, *setting_columns(table), *LAST, *HIDDEN]]


def _measured(runs: pd.DataFrame, metric: str, over: str) -> list[dict]:
    """Runs, sorted, with `value` (NaN if there is none), `unit` (what varies) and `method_settings` without the unit."""
    if metric == "errors":
        runs = runs.assign(errors=errors(runs))
    if (
        metric not in runs
        or metric in ("seed", "teacher_seed", "heartbeat")
        or not pd.to_numeric(runs[metric], errors="coerce").notna().any()
    ):
        numbers = [name for name in runs.select_dtypes("number") if runs[name].notna().any() and "seed" not in name]
        raise ValueError(f"--metric {metric}: no run has this number. There are: {', '.join(numbers)}")
    _check_share(runs, metric)
    value = pd.to_numeric(runs[metric], errors="coerce").replace([np.inf, -np.inf], np.nan).astype(float)
    teacher_acc = pd.to_numeric(runs.get("teacher_test_acc", np.nan), errors="coerce")
    # a notebook's frame may lack these
    usual = {"variant": "", "taught_by": "", "weights": "", "words": "[]", "replaced": False}
    more = {name: runs[name].fillna("") if name in runs else value for name, value in usual.items()}
    columns = dict.fromkeys([*SAME, "seed", "status", "folder", *more])
    frame = runs.assign(**more)[[*columns]].assign(value=value.where(runs.status == "done"), teacher_acc=teacher_acc)
    frame = frame.sort_values(["dataset", "teacher", "student", "shared_settings", "method_settings", "seed"])
    measured = frame.to_dict("records")
    for run in measured:
        run["unit"] = str(run["seed"])
        if over == "teacher":
            draw, run["method_settings"] = _draw(run["method_settings"])
            run["unit"] = draw if run["teacher"] else f"seed {run['seed']}"
    return measured


OF_GROUPS = ("seconds", "seconds_per_epoch", "images_per_second", "peak_memory_mb")


def _check_share(runs: pd.DataFrame, metric: str) -> None:
    """Raise ValueError if a number of these runs belongs to a whole group of students, or to the process."""
    done = runs[runs.status == "done"]
    if metric not in OF_GROUPS or "group_size" not in done:
        return
    if (done.group_size > 1).any():
        raise ValueError(
            f"--metric {metric}: these students were trained side by side, up to {done.group_size.max():.0f} in a group, and this "
            "is the group's. To compare single students, train them with share=1"
        )
    if metric == "peak_memory_mb" and (done.device == "cpu").any():
        raise ValueError(
            f"--metric {metric}: on the CPU this is the most that the whole process has used since its start, not a student's"
        )


def errors(runs: pd.DataFrame) -> list[float]:
    """The number of test images that each run gets wrong, from its accuracy and its predictions.npy; NaN without them."""
    counts = [arrays.test_images(folder) if done else 0 for folder, done in zip(runs.folder, runs.status == "done")]
    return [float(round(count * (1 - acc / 100))) if count else np.nan for count, acc in zip(counts, runs.test_acc)]


def _right(runs: pd.DataFrame, metric: str, over: str, data: str | None) -> Right | None:
    """A function that tells which images a run got right; None if the table is not about that."""
    if metric != "test_acc" or over == "teacher":
        if over == "images":
            raise ValueError(f"--over images: only test_acc is known per image, not {metric}")
        return None
    return from_records(runs, data if over == "images" else None)


def _draw(own: str) -> tuple[str, str]:
    """Settings -> (the teacher draw, the rest)."""
    rest = json.loads(own)
    seed, checkpoint, constants = (rest.pop(f"teacher_{key}", None) for key in ("seed", "checkpoint", "normalize"))
    draw = f"teacher {checkpoint or seed}" + f" {constants}" * bool(constants)
    return draw, json.dumps(rest, sort_keys=True)


def _with_settings(table: pd.DataFrame) -> pd.DataFrame:
    """Add a column for each setting that differs among the rows of a pair (shared_settings) or among rows of one method
    (method_settings); empty where it does not apply."""
    columns: dict[str, dict] = {}
    for keys, column in (
        (["dataset", "student"], "shared_settings"),
        (["dataset", "teacher", "student", "distill"], "method_settings"),
    ):
        for _, rows in table.groupby(keys, sort=False):
            parsed = {text: json.loads(text) for text in rows[column].unique()}
            for name in differing(list(parsed.values())):
                values = {index: parsed[text].get(name) for index, text in rows[column].items()}
                columns.setdefault(name, {}).update(values)
    series = {name: pd.Series(values, dtype=object) for name, values in columns.items()}
    return table.assign(**{name: values.reindex(table.index) for name, values in series.items()})


def setting_columns(table: pd.DataFrame) -> list[str]:
    """The columns that `_with_settings` added to a table."""
    return [column for column in table if column not in (*FIRST, *LAST, *HIDDEN)]


def method_setting_columns(rows: pd.DataFrame) -> list[str]:
    """The settings that differ among the rows of one method in a block and so get their own columns."""
    varying = [column for column in setting_columns(rows) if rows[column].nunique(dropna=False) > 1]
    methods = [group for _, group in rows.groupby("distill")] if varying else []
    return [column for column in varying if any(group[column].nunique(dropna=False) > 1 for group in methods)]
