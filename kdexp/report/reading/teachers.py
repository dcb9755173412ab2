"""Whose weights taught each run. Students of one teacher by its settings may have learned from different weights of it: the
teacher was trained again, or the records come from two machines."""

import json

UNKNOWN = "unknown"


def told_apart(rows: list[dict]) -> list[dict]:
    """Fill in `weights`, in place: the sha256 of the weights that taught a run if students of its pair and settings learned
    from different weights of one teacher, "unknown" if it is among these and its own are not recorded, else "". And
    `replaced`: whether the run that had these weights is not among the rows.

    rows: with `taught_by` (the sha256; "unknown" if not recorded, "" for a baseline) and the settings as JSON."""
    seen: dict[tuple, dict[str, set]] = {}
    for row in rows:
        seen.setdefault(_pair(row), {}).setdefault(_teacher(row), set()).add(row["taught_by"])
    there = {row.get("student_sha256") for row in rows}
    for row in rows:
        several = any(len(weights - {UNKNOWN}) > 1 for weights in seen[_pair(row)].values())
        row |= {"weights": row["taught_by"] if several else "", "replaced": row["taught_by"] not in there}
    return rows


def _pair(row: dict) -> tuple:
    return row["dataset"], row["teacher"], row["student"], row["shared_settings"]


def _teacher(row: dict) -> str:
    """The teacher by its settings: its network, its seed, or its file."""
    own = {key: value for key, value in json.loads(row["method_settings"]).items() if not key.startswith("distill.")}
    return json.dumps(own, sort_keys=True)


def file_names(rows: list[dict]) -> None:
    """Replace the sha256 of each teacher_checkpoint in the settings, in place: by the file's name if no other file here
    has it, else by eight digits."""
    named: dict[str, set] = {}
    for row in rows:
        named.setdefault(row["teacher_file"], set()).add(row["settings"]["teacher_checkpoint"])
    of = {
        digest: name for name, digests in sorted(named.items(), reverse=True) for digest in digests if len(digests) == 1
    }
    for row in rows:
        if digest := row["settings"]["teacher_checkpoint"]:
            row["settings"]["teacher_checkpoint"] = of.get(digest, digest[:8])
