"""What a notebook calls."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch and pandas take seconds to import
    import pandas as pd
    from torch import nn


def load(run_folder: str | os.PathLike) -> nn.Module:
    """The trained network of a run, on the CPU in eval mode, with its configuration as `.config`.

    Raises FileNotFoundError if the folder has no student.pt yet.
    """
    from kdexp.teachers import load_network

    return load_network(Path(run_folder))


def run(*words: str, **settings: object) -> pd.DataFrame:
    """Train what is missing of these runs, as `python run.py` does with the same words, and return their rows of `runs`.

        kdexp.run("distill=none,kd", "teacher=wrn16_4", seed=(1, 2, 3))

    words: as on the command line; several values separated by commas are a sweep. settings: the same as keywords; a tuple
    or a range is several values. For keys with dots, use words. A run that fails or diverges has that `status`. Raises
    kdexp.errors.UsageError before anything starts, and kdexp.errors.Stopped after Ctrl-C, when all is saved.
    """
    from kdexp.command.notebook import run

    return run(list(words), settings)


def runs(*folders: str | os.PathLike) -> pd.DataFrame:
    """A data frame with one row for each run below these folders; without folders, for each below outputs/ (or
    $KDEXP_OUTPUTS). What cannot be read is named on stderr and left out. `summarize.py` writes the same as runs.csv. Raises
    FileNotFoundError for a folder that is not there.

    What it is: `dataset`, `teacher` ("" for label-only training), `student`, `distill` (the method's option), `label` (its
    name in tables), `seed`, `teacher_seed`, `recipe`, `epochs`, `stop_epoch`, `batch_size`, `limit` (training images),
    `variant` (its folder's name for what differs from the defaults), and every setting of config.yaml by the name that is
    typed for it, such as `distill.temperature` and `optimizer.lr`.
    How it ended: `status` (done, running, stopped, failed, diverged), `error`, `started`, `heartbeat` (seconds since 1970),
    `host`, `folder`.
    Its numbers, after the last epoch unless they say otherwise: `test_acc`, `test_top5`, `best_test_acc` (of all epochs),
    `val_acc` and `test_acc_best_val` (the test accuracy of the epoch with the best validation accuracy), in percent;
    `test_loss` and `nll`, in nats; `ece`, in percent; `brier`; for students, `agreement`, `agreement_wrong` and
    `agreement_wrong_chance` with the teacher, in percent, `kl_teacher` and `kl_teacher_t4`, in nats: see
    kdexp.evaluate.measures; `class_acc.N`, in percent, of runs with `omit`; SET.acc, SET.ece, ... after `kdexp evaluate`.
    Its teacher: `teacher_test_acc`, in percent; `taught_by`, the sha256 of the file with its weights ("unknown" in records of
    earlier versions, "" without a teacher); `weights`, the same where students of the same pair and settings learned
    from different weights of one teacher, else ""; `replaced`, whether the run that had these weights is not in the frame.
    What it took: `params`; `seconds`, `seconds_per_epoch`, `images_per_second` and `peak_memory_mb` (2**20 bytes), which are
    those of the whole group if `group_size` is above 1; `device`, `precision`, `compile`, `deterministic`, `threads`.
    What it came from: `fingerprint` (of its settings), `student_sha256` (of student.pt), `teacher_checkpoint_sha256`, `git`,
    `versions.kdexp`, `versions.python`, `versions.torch`, `versions.method`.
    For summarize: `control`, `note`, `sha256`, `shared_settings`, `method_settings`, `words`, `teacher_file`.
    """
    from kdexp.report.reading.records import load

    chosen = folders or [os.environ.get("KDEXP_OUTPUTS", "outputs")]
    if absent := [str(folder) for folder in chosen if not os.path.isdir(folder)]:
        raise FileNotFoundError(f"{absent[0]}: there is no such folder")
    return load(*chosen)
