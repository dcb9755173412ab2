"""Compares the predictions of students and teachers: where they agree, and which classes gain. Reads predictions.npy, the
predicted class of each test image after the last epoch."""

import importlib
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from kdexp.report.reading.arrays import predictions


def teacher_folder(run, runs: pd.DataFrame) -> str | None:
    """The folder of the run whose weights taught this one. None if it is not among these runs, and for records of earlier
    versions, which don't say whose weights taught them."""
    if "student_sha256" not in runs:
        return None
    return next(iter(runs.folder[runs.student_sha256 == run.taught_by]), None)


def agreement(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per finished student whose teacher's predictions are available: `run` (index in runs), `row`, `agreement`
    in percent of the test images."""
    rows = [
        {"run": run.Index, "row": run.row, "agreement": 100 * (student == teacher).mean()}
        for run, student, teacher in _taught(runs)
    ]
    return pd.DataFrame(rows, columns=["run", "row", "agreement"])


def _taught(runs: pd.DataFrame) -> Iterator[tuple]:
    students = runs[(runs.status == "done") & (runs.teacher != "")]
    return answers(students, {run.Index: teacher_folder(run, runs) for run in students.itertuples()})


def answers(students: pd.DataFrame, teachers: Mapping[int, str | None]) -> Iterator[tuple]:
    """(run, predictions of the student, those of its teacher, each (N,)) for the runs that have both, on equally many images.
    teachers: folders by index of the run."""
    for run in students.itertuples():
        folder = teachers.get(run.Index)
        student, teacher = predictions(run.folder), predictions(folder) if folder else None
        if student is not None and teacher is not None and student.shape == teacher.shape and student.size:
            yield run, student, teacher


def agreement_per_class(runs: pd.DataFrame) -> pd.DataFrame:
    """Rows x classes predicted by the teacher: percent of these images where the student agrees, mean over seeds."""
    rows = [
        (pd.Series(student == teacher).groupby(teacher).mean() * 100).rename(run.row)
        for run, student, teacher in _taught(runs)
    ]
    return pd.DataFrame(rows).groupby(level=0, sort=False).mean() if rows else pd.DataFrame()


def gain_per_class(runs: pd.DataFrame, labels: np.ndarray) -> pd.DataFrame:
    """Rows x classes: accuracy gain, in points, over the label-only baseline on the test images of each class, mean over
    seeds. Empty if no baseline has predictions that fit the labels."""
    alone: list[pd.Series] = []
    taught: list[pd.Series] = []
    for run in runs[runs.status == "done"].itertuples():
        guessed = predictions(run.folder)
        if guessed is not None and len(guessed) <= len(labels):
            truth = labels[: len(guessed)]
            accuracy = pd.Series(guessed == truth).groupby(truth).mean() * 100
            (taught if run.teacher else alone).append(accuracy.rename(run.row))
    if not alone:
        return pd.DataFrame()
    baseline = pd.DataFrame(alone).mean()
    gains = pd.DataFrame([(row - baseline).rename(row.name) for row in taught])
    return gains.groupby(level=0, sort=False).mean()


def labels_of(run: pd.Series, data: str) -> np.ndarray:
    """The labels of a run's test images, (N,), read from the data set itself (this imports torch). Raises ValueError if
    the data set is missing or not one of kdexp's."""
    module, _, function = str(run["dataset._target_"]).rpartition(".")
    if not module.startswith("kdexp."):
        raise ValueError(
            f"--data: {run['dataset._target_']} is not one of kdexp's data sets, so its labels are not known here"
        )
    try:
        _, test, *_ = getattr(importlib.import_module(module), function)(data)
    except Exception as error:  # whatever a data set of another version raises, only this figure is lost
        raise ValueError(f"--data {data}: {run.dataset} cannot be read there ({error})") from None
    return test.labels.numpy()
