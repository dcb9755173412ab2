"""How things in the table are named: blocks and their headings, rows, numbers."""

import functools
import json
import re
import textwrap

import numpy as np
import pandas as pd

from kdexp.report.comparing.table import CLASS, METRICS, is_percent, method_setting_columns
from kdexp.report.reading.settings import BASELINE


def blocks(table: pd.DataFrame):
    """The rows of each block, as frames indexed from 0."""
    for _, rows in table.groupby("block", sort=False):
        yield rows.reset_index(drop=True)


def pairs(table: pd.DataFrame) -> list[pd.DataFrame]:
    """The blocks with a teacher and a student; the others are networks trained on labels alone."""
    return [rows for rows in blocks(table) if (rows.teacher != "").any()]


def teacher_of(rows: pd.DataFrame) -> str:
    return rows.teacher.max()


def place(rows: pd.DataFrame) -> str:
    """The suffix of a block's figure files: cifar100_wrn16_4-resnet32_0, or cifar100_resnet32_1."""
    return f"{rows.dataset[0]}_{'-'.join(filter(None, (teacher_of(rows), rows.student[0])))}_{rows.block[0]}"


def measured(metric: str) -> str:
    if metric.startswith(CLASS):
        return f"test accuracy on class {metric.removeprefix(CLASS)}, last epoch, %"
    return METRICS.get(metric, metric)


def stopped(rows: pd.DataFrame) -> pd.Series:
    """Rows whose teacher was stopped on purpose: teacher_epoch."""
    return rows.method_settings.map(_stopped)


@functools.cache
def _stopped(method_settings: str) -> bool:
    return json.loads(method_settings).get("teacher_epoch") is not None


def teacher_accuracy(rows: pd.DataFrame) -> float:
    """The accuracy of a block's teacher; NaN if there are several. If any are fully trained, only these count."""
    whole = rows[~stopped(rows) & (rows.teacher_accs != "")]
    scores = {score for text in (whole if len(whole) else rows).teacher_accs if text for score in text.split(", ")}
    return float(*scores) if len(scores) == 1 else np.nan


def title(rows: pd.DataFrame) -> str:
    """digits   wrn16_4 (97.60) -> resnet8, or digits   resnet8 for a network trained on the labels alone"""
    first, accuracy = rows.iloc[0], teacher_accuracy(rows)
    if not teacher_of(rows):
        return f"{first.dataset}   {first.student}"
    weights = rows.weights.max()[:8]
    known = ", ".join([*[f"{accuracy:.2f}"] * bool(np.isfinite(accuracy)), *[f"weights {weights}"] * bool(weights)])
    return f"{first.dataset}   {teacher_of(rows)}{f' ({known})' if known else ''} -> {first.student}"


def heading(rows: pd.DataFrame) -> str:
    """digits   wrn16_4 (97.60) -> resnet8   test accuracy, last epoch, %"""
    return f"{title(rows)}   {measured(rows.metric.iloc[0])}"


def circumstances(rows: pd.DataFrame) -> str:
    """The settings that all rows share and that differ from the defaults, with the device type and the precision. In records
    of earlier versions a list too long for the name of a folder is cut; then what is left of it, and the recipe."""
    shared = json.loads(rows.shared_settings.iloc[0])
    texts = [words for words in map(json.loads, rows.words) if words]
    taught = [json.loads(words) for words in rows.words[rows.teacher != ""]] if rows.over.iloc[0] != "teacher" else []
    teacher = [word for word in (taught[0] if taught else []) if all(word in words for words in taught)]  # of all rows
    parts = [part for part in (texts[0] if texts else []) if not part.startswith(("distill.", "teacher_"))]
    parts += [word for word in teacher if word.startswith("teacher_")]
    if texts and len(",".join(texts[0])) == 80 and cut(texts[0][-1]):
        recipe = f"recipe={shared.get('recipe')}"
        parts = [*parts[:-1], *[recipe] * (recipe not in parts[:-1]), "..."]
    return "   ".join(filter(None, [",".join(parts), str(shared["device"]), str(shared["precision"])]))


def cut(word: str) -> bool:
    """Whether a setting was cut off to fit the name of a folder, by kdexp.config.naming.variant."""
    return bool(re.search("-[0-9a-f]{8}$", word))


def name(row, rows: pd.DataFrame) -> str:
    """KD, or KD distill.weight=0.5 if the block has several KD rows."""
    label = textwrap.shorten(row.label, 40)
    if (rows.label == row.label).sum() == 1:
        return label
    return " ".join([label, *(f"{key}={row[key]}" for key in method_setting_columns(rows) if pd.notna(row[key]))])


def names(chosen: pd.DataFrame, rows: pd.DataFrame) -> list[str]:
    return [name(row, rows) for _, row in chosen.iterrows()]


def unit(rows: pd.DataFrame) -> str:
    """What the means are over, in the singular."""
    return "teacher draw" if rows.over.iloc[0] == "teacher" else "seed"


def listed(words: list[str]) -> str:
    """KD, SP and AT"""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def footnotes(rows: pd.DataFrame) -> list[str]:
    """Notes on the methods, from their yaml files."""
    noted = (rows.note != "") & (rows.distill != BASELINE)
    return list(dict.fromkeys(f"{label}: {note}" for label, note in zip(rows.label[noted], rows.note[noted])))


def amount(value: float, metric: str) -> str:
    """0.53 points, 7.5 errors, or 1.2e+03 for other metrics."""
    if metric == "errors":
        return f"{value:.1f} errors"
    return f"{value:.2f} points" if is_percent(metric) else f"{value:.3g}"


def number(value, metric: str, sign: str = "") -> str:
    """Two decimals for percentages, one for errors, four digits for the rest; empty if there is no number."""
    if pd.isna(value):
        return ""
    if metric == "errors":
        return f"{round(value, 1) + 0.0:{sign}.1f}"
    return f"{round(value, 2) + 0.0:{sign}.2f}" if is_percent(metric) else f"{value:{sign}.4g}"


def points(value: float, metric: str, sign: str = "") -> str:
    """As `number`, with the unit if it is a percentage: +0.53 points."""
    return f"{number(value, metric, sign)}{' points' * is_percent(metric)}"


def interval(low: float, high: float, metric: str) -> str:
    """+0.93 .. +3.27"""
    return f"{number(low, metric, '+')} .. {number(high, metric, '+')}"


def probability(p: float) -> str:
    return "" if pd.isna(p) else "<0.001" if p < 0.001 else f"{p:.3f}"
