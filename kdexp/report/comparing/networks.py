"""What trained networks know beyond their accuracy: how confident they are, on which classes student and teacher disagree,
and which classes have correlated logits. Reads logits.npy and predictions.npy."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import softmax

from kdexp.report.comparing.agreement import answers, teacher_folder
from kdexp.report.reading.arrays import logits, right

BINS = 15  # as in kdexp.evaluate.measures.calibration


class Reliability(NamedTuple):
    """For each of 15 confidence bins, (low, high]: the number of images, the sum of their confidence, how many were right."""

    images: np.ndarray
    confidence: np.ndarray
    right: np.ndarray


def reliability(z: np.ndarray, correct: np.ndarray) -> Reliability:
    """The bins of Guo et al. 2017 (equation 3). z: logits (N, classes). correct: (N,) booleans."""
    confidence = softmax(z, axis=1).max(1)
    bins = np.clip(np.ceil(confidence * BINS).astype(int), 1, BINS) - 1
    return Reliability(*(np.bincount(bins, weights, BINS) for weights in (None, confidence, correct)))


def pooled_reliability(runs: pd.DataFrame) -> dict[str, Reliability]:
    """Bins by `row`, pooling the images of its runs. Rows whose runs did not keep logits.npy and right.npy are left out."""
    by_row: dict[str, list[Reliability]] = {}
    for run in runs.itertuples():
        z, correct = logits(run.folder), right(run.folder, run.test_acc)
        if z is not None and correct is not None and len(z) == len(correct):
            by_row.setdefault(run.row, []).append(reliability(z, correct))
    return {row: Reliability(*(np.sum(part, axis=0) for part in zip(*bins))) for row, bins in by_row.items()}


def teachers(pair: pd.DataFrame, runs: pd.DataFrame) -> dict[int, str]:
    """Index of a run -> the folder of the teacher it is compared with, if that is among `runs`. pair: the finished runs of
    one. A label-only student is compared with the teacher of the distilled students of its seed, else of the first seed."""
    taught = pair[pair.teacher != ""].sort_values("seed")
    folders = {run.Index: teacher_folder(run, runs) for run in taught.itertuples()}
    by_seed: dict[int, str] = {}
    for index, folder in folders.items():
        if folder:
            by_seed.setdefault(taught.seed[index], folder)
    first = next(iter(by_seed.values()), None)
    folders |= {run.Index: by_seed.get(run.seed, first) for run in pair[pair.teacher == ""].itertuples()}
    return {index: folder for index, folder in folders.items() if folder}


def disagreements(pair: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """(teacher's class, student's class) x rows: how many of 1,000 test images the teacher puts in one class and the
    student in the other, mean over seeds. Most frequent first, by the median over the rows, then the mean."""
    counts = []
    for run, student, teacher in answers(pair, teachers(pair, runs)):
        apart = student != teacher
        classes = pd.MultiIndex.from_arrays([teacher[apart], student[apart]], names=["teacher", "student"])
        counts.append(classes.value_counts().mul(1000 / len(student)).rename(run.row))
    if not counts:
        return pd.DataFrame()
    table = pd.concat(counts, axis=1).fillna(0).T.groupby(level=0, sort=False).mean().T
    by = pd.DataFrame({"median": -table.median(axis=1), "mean": -table.mean(axis=1)}).reset_index()
    return table.iloc[by.sort_values(["median", "mean", "teacher", "student"]).index]


def correlation(z: np.ndarray) -> np.ndarray:
    """Pearson correlation, over images, between the logits of every two classes, (classes, classes). z: (N, classes)."""
    return np.corrcoef(z, rowvar=False)


class Correlations(NamedTuple):
    """difference: student's minus teacher's class correlations, mean over seeds (classes, classes). distance: mean absolute
    difference of a run, mean over seeds."""

    difference: np.ndarray
    distance: float


def correlations(pair: pd.DataFrame, runs: pd.DataFrame) -> dict[str, Correlations]:
    """For each row whose runs and teachers kept their logits (as in figure 3 of Tian et al. 2020, "Contrastive
    Representation Distillation")."""
    folders, differences = teachers(pair, runs), dict[str, list[np.ndarray]]()
    of_folder = {folder: None if (z := logits(folder)) is None else correlation(z) for folder in {*folders.values()}}
    for run in pair[pair.index.isin(list(folders))].itertuples():
        z, teacher = logits(run.folder), of_folder[folders[run.Index]]
        if z is not None and teacher is not None and z.shape[1] == len(teacher):
            differences.setdefault(run.row, []).append(correlation(z) - teacher)
    return {
        row: Correlations(np.mean(seeds, axis=0), float(np.mean(np.abs(seeds)))) for row, seeds in differences.items()
    }
