"""Reads records into tidy frames: a row per run (`load`), a row per epoch (`epochs`).

Numbers come from result.json and epochs.csv, states from status.json, settings from config.yaml; never from folder
names or logs. Corrupt records are reported and left out.
"""

import fnmatch
import functools
import io
import json
import math
import os
import sys
from pathlib import Path

import pandas as pd
import yaml

from kdexp.config.schema import flatten, label
from kdexp.errors import first_line
from kdexp.record.config import block, blocks, parse
from kdexp.record.runs import folders
from kdexp.report.reading.settings import DEFAULTS, SECTIONS, fill_absent, settings, split
from kdexp.report.reading.teachers import UNKNOWN, file_names, told_apart
from kdexp.storage import lease, seal

IDENTITY = ["dataset", "teacher", "student", "distill"]
CELL = [*IDENTITY, "shared_settings", "method_settings", "weights", "seed"]  # one measurement
RESOLVED = ("precision", "deterministic", "device")  # may be requested as `auto`; known once a run is done


def load(*outputs: str | os.PathLike) -> pd.DataFrame:
    """A row per run below the outputs folders; prints to stderr what is left out. See `read`."""
    runs, left_out = read(*outputs)
    for line in left_out:
        print(f"left out: {line}", file=sys.stderr)
    return runs


def read(*outputs: str | os.PathLike) -> tuple[pd.DataFrame, list[str]]:
    """(runs, what was left out and why).

    runs: the numbers of result.json (accuracies in percent, `seconds`, `params`), every setting by its dotted name,
    and `status` (done, running, stopped, failed, diverged), `folder`, `sha256` (of its files, by name), `label`, `note`,
    `shared_settings`, `method_settings` (JSON; kdexp/report/reading/settings.py), `taught_by`, `weights` (teachers.py).
    If two folders hold the same run, it counts once. The frame is empty if there are no records.
    """
    rows, left_out = [], []
    for folder in folders(outputs):
        try:
            rows.append(_row(folder))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
            left_out.append(f"{folder} is not a complete record ({type(error).__name__}: {first_line(error)})")
    file_names(rows)
    asked = [row.pop("settings") for row in rows]
    fill_absent(asked, [row.pop("names") for row in rows])
    _resolve(rows, asked)
    for row, own in zip(rows, asked):
        row["shared_settings"], row["method_settings"] = (json.dumps(part, sort_keys=True) for part in split(own))
        row |= {key: value for key, value in own.items() if key not in row}
    return _once(pd.DataFrame(told_apart(rows)), left_out), left_out


@functools.cache
def _settings(text: str) -> dict:
    return settings(block(text))


def parse_config(text: str) -> tuple[dict, dict]:
    """Text of config.yaml -> (the config, its settings)."""
    flat = dict(DEFAULTS)
    for part in blocks(text):
        flat |= _settings(part)
    return parse(text), flat


def _text(folder: str, name: str) -> str:
    with open(f"{folder}/{name}", encoding="utf-8") as file:
        return file.read()


def _json(folder: str, name: str) -> dict:
    content = seal.read_json(Path(folder, name))
    if not content:
        raise ValueError(f"{name} is {'missing' if content == {} else 'damaged'}")
    return content


def _row(folder: str) -> dict:
    # published records have a result but no status.json: they are done, because result.json is written last
    state = _json(folder, "status.json") if os.path.exists(f"{folder}/status.json") else {"status": "done"}
    text = _text(folder, "config.yaml")
    config, asked = parse_config(text)
    result = _json(folder, "result.json") if state["status"] == "done" else {}
    status = "stopped" if state["status"] == "running" and not lease.is_live(state) else str(state["status"])
    made = {**state, **result}
    method, teacher = config["distill"], config["model"]["teacher"]
    identity = {
        "dataset": config["dataset"]["name"],
        "teacher": teacher and teacher["name"],
        "student": config["model"]["student"]["name"],
        "distill": method["name"],
        "seed": config["seed"],
    }
    sealed = result.pop("sha256", {})
    if sealed and seal.sha256(text.encode()) != sealed["config.yaml"]:
        raise ValueError("config.yaml does not match its checksum")
    if result and any(result[key] != value for key, value in identity.items()):
        raise ValueError("result.json and config.yaml belong to different runs")
    file = asked["teacher_checkpoint"]
    asked["teacher_checkpoint"] = result.get("teacher_checkpoint_sha256") or file
    # the code of a user's own classes is a setting: what differs in it is not averaged
    asked |= {f"{section}.source": digest for section, digest in made.get("sources", {}).items()}
    weights = result.get("student_sha256")
    sections = {**config, "model.teacher": teacher, "model.student": config["model"]["student"]}
    return {
        **{
            key: value
            for key, value in flatten(result).items()
            if not key.startswith(("seal", "sources.")) and not isinstance(value, list)
        },
        **_evaluations(folder, weights),
        **identity,
        "teacher": identity["teacher"] or "",
        "taught_by": _taught_by(made) if identity["teacher"] else "",
        "teacher_file": os.path.basename(file or ""),
        "words": json.dumps(_words(made, Path(folder).resolve().parent.name)),
        "test_acc": _number(result.get("test_acc")),
        "status": status,
        "folder": folder,
        "sha256": sealed,
        "label": label(method),
        "note": method["note"] or "",
        "control": bool(method.get("control")) or config.get("teacher_epoch") is not None,  # older records have neither
        **{key: state.get(key) for key in ("started", "heartbeat", "host", "error")},
        "asked_device": str(config.get("device", "auto")).partition(":")[0],
        "settings": asked,
        "names": {section: (sections[section] or {}).get("name") for section in SECTIONS},
    }


def _taught_by(made: dict) -> str:
    """The sha256 of the weights that taught a run, joined by + if there are several; "unknown" in records of earlier
    versions. made: result.json and status.json."""
    digests = [teacher["sha256"] for teacher in made.get("teachers", [])] or [made.get("teacher_checkpoint_sha256")]
    return "+".join(filter(None, digests)) or UNKNOWN


def _words(made: dict, variant: str) -> list[str]:
    """The settings that differ from the defaults, as they would be typed. Records of earlier versions have them in the name of
    their folder, which is cut if they are many."""
    return made.get("settings") or [word for word in variant.split(",") if word != "base"]


def _evaluations(folder: str, weights: str | None) -> dict[str, float]:
    """What `python -m kdexp.evaluate` wrote next to a run, as SET.acc, SET.ece, ...; only if it is for these weights."""
    numbers: dict[str, float] = {}
    for name in sorted(fnmatch.filter(os.listdir(folder), "evaluated-*.json")):
        content = _json(folder, name)
        if weights and content.get("student_sha256") == weights:
            found = {key: value for key, value in content.items() if isinstance(value, (int, float))}
            numbers |= {f"{content['set']}.{key}": value for key, value in found.items()}
    return numbers


def _number(value) -> float:
    """A finite number, or NaN. Raises TypeError or ValueError if the value is neither a number nor null."""
    number = math.nan if value is None else float(value)
    return number if math.isfinite(number) else math.nan


def _resolve(rows: list[dict], asked: list[dict]) -> None:
    """Put the resolved precision, determinism and kind of device into the settings, in place: runs in bf16 on CUDA are not
    averaged with runs in fp32 on a CPU. A run without a result is assumed to resolve as its finished siblings did."""
    known: dict[tuple, dict] = {}
    keys = []
    for row, own in zip(rows, asked):
        shared, _ = split({key: value for key, value in own.items() if key not in RESOLVED})
        request = (own["precision"], own["deterministic"], row["asked_device"], frozenset(shared.items()))
        keys.append((row["dataset"], row["student"], request))
        asked_device = row.pop("asked_device")
        kind = str(row.get("device") or asked_device).partition(":")[0].partition(" ")[0]
        own |= {key: row.get(key, own.get(key)) for key in RESOLVED[:2]} | {"device": kind}
        if row["status"] == "done":
            known.setdefault(keys[-1], {key: own[key] for key in RESOLVED})
    for row, own, key in zip(rows, asked, keys):
        if row["status"] != "done":
            own |= known.get(key, {})


def _once(runs: pd.DataFrame, left_out: list[str]) -> pd.DataFrame:
    """One row per measurement: the finished run, or else the first."""
    if runs.empty:
        return runs
    runs = runs.sort_values("status", key=lambda status: status != "done", kind="stable")
    again = runs.duplicated(CELL)
    first = runs[~again].set_index(CELL)
    for row in runs[again & (runs.status == "done")].itertuples():
        kept = first.loc[tuple(getattr(row, key) for key in CELL)]
        if not kept.test_acc == row.test_acc:
            left_out.append(
                f"{row.folder} ({row.test_acc:.2f} %) repeats {kept.folder} ({kept.test_acc:.2f} %), which counts"
            )
    return runs[~again].sort_values([*IDENTITY, "shared_settings", "method_settings", "seed"], ignore_index=True)


def epochs(runs: pd.DataFrame) -> pd.DataFrame:
    """A row per epoch of these runs: `run` (the index of its row in `runs`) and the columns of epochs.csv. Corrupt files
    are reported on stderr and left out."""
    texts: dict[str, list[str]] = {}
    for index, folder, sealed in zip(runs.index, runs.folder, runs.sha256):
        try:
            content = Path(folder, "epochs.csv").read_bytes()
            if sealed.get("epochs.csv") not in (None, seal.sha256(content)):
                raise ValueError("it does not match its checksum")
            header, *lines = content.decode().splitlines()
            if not header.startswith("epoch,") or any(line.count(",") != header.count(",") for line in lines):
                raise ValueError("its rows do not match its header")
        except FileNotFoundError:
            continue  # nothing trained yet
        except (OSError, ValueError) as error:
            print(f"left out: {folder}/epochs.csv ({error})", file=sys.stderr)
            continue
        texts.setdefault(header, []).extend(f"{index},{line}" for line in lines)
    parts = [pd.read_csv(io.StringIO("\n".join([f"run,{header}", *lines]))) for header, lines in texts.items()]
    none = pd.DataFrame(columns=["run", "epoch", "test_acc", "seconds"])
    return (pd.concat(parts, ignore_index=True) if parts else none).apply(pd.to_numeric, errors="coerce")
