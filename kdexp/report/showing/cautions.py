"""What a reader must know before anything else in a block: a teacher worse than its student, students of different weights."""

import pandas as pd

from kdexp.report.reading.settings import BASELINE
from kdexp.report.reading.teachers import UNKNOWN
from kdexp.report.showing import labels
from kdexp.report.showing.labels import listed


def cautions(rows: pd.DataFrame) -> list[str]:
    """Sentences that belong in front of the numbers; none for most blocks."""
    return [*_weak_teacher(rows), *_other_weights(rows)]


def _weak_teacher(rows: pd.DataFrame) -> list[str]:
    """Teachers whose student is better without them. Not of those that were stopped on purpose (teacher_epoch)."""
    alone = rows.baseline.dropna()
    if rows.metric.iloc[0] != "test_acc" or alone.empty:
        return []
    if not (rows.teacher_acc < alone.iloc[0]).any() and not rows.teacher_accs.str.contains(",").any():
        return []
    taught = rows[(rows.distill != BASELINE) & ~labels.stopped(rows)]
    scores = sorted({score for text in taught.teacher_accs for score in map(float, filter(None, text.split(", ")))})
    weak = [f"{score:.2f} %" for score in scores if score < alone.iloc[0]]
    if not weak:
        return []
    which = "The teacher is" if len(scores) == 1 else "A teacher is" if len(weak) == 1 else "Some teachers are"
    return [
        f"{which} worse than the student: {labels.teacher_of(rows)} {listed(weak)}, {rows.student[0]} trained on the labels "
        f"alone {alone.iloc[0]:.2f} %."
    ]


def _other_weights(rows: pd.DataFrame) -> list[str]:
    """The teacher of this block exists with other weights, too, from which other students learned."""
    weights = rows.weights.max()
    if not weights:
        return []
    own = "unrecorded weights" if weights == UNKNOWN else f"the weights {weights[:8]}"
    return [
        f"These students learned from {own} of {labels.teacher_of(rows)}. Other students with the same settings learned from "
        "different weights, and stand in a table of their own."
    ]


def untraced(rows: pd.DataFrame) -> list[str]:
    """Which students have records that do not say whose weights taught them."""
    unknown = rows[rows.untraced]
    if unknown.empty:
        return []
    which = "these students" if len(unknown) == (rows.teacher != "").sum() else listed(labels.names(unknown, rows))
    return [f"Whose weights taught {which} is not recorded: their records are from an earlier version."]
