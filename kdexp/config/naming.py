"""What a run is called: its folder, and the fingerprint of everything that affects its numbers."""

import functools
import json
import re
from pathlib import Path

from kdexp.config.resolve import teachers_of
from kdexp.config.schema import (
    AUGMENT,
    CIRCUMSTANCES,
    DATASET,
    DISTILL,
    PLACES,
    Config,
    Dataset,
    Recipe,
    flatten,
    without_places,
)
from kdexp.config.targets import parameters, signature_defaults, target
from kdexp.errors import UsageError
from kdexp.storage.seal import sha256


def file_sha256(path: str | Path) -> str:
    """sha256 of a file. Raises UsageError if it cannot be read."""
    try:
        seen = Path(path).stat()
        return _file_sha256(str(path), seen.st_ino, seen.st_size, seen.st_mtime_ns)
    except OSError as error:
        raise UsageError(f"teacher_checkpoint={path}: {error.strerror}") from None


@functools.cache
def _file_sha256(path: str, *seen: int) -> str:
    """Cached until the file changes: every job of a sweep asks several times."""
    return sha256(Path(path).read_bytes())


def differing(config: dict) -> dict:
    """Every value that differs from its option's own file, by command-line key; without the networks and the seed."""
    flat = flatten(config)
    return {key.removesuffix(".name"): flat[key] for key in config["changed"]}


def words(values: dict, comma: str = ",") -> list[str]:
    """Values as they would be typed: key=value. comma: what separates the values of a list."""
    return [f"{key}={json.dumps(value, separators=(comma, ':'))}".replace('"', "") for key, value in values.items()]


def without_paths(config: dict) -> dict:
    """What `differing` finds, with a hash of its content instead of each path."""
    values = differing(config)
    if config["teacher_checkpoint"]:
        values["teacher_checkpoint"] = file_sha256(config["teacher_checkpoint"])[:8]
    if content := config["dataset"].get("content"):
        values |= {"dataset.content": content} if "dataset.root" in values else {}
        values = {key: value for key, value in sorted(values.items()) if key not in PLACES}
    return values


def variant(config: dict) -> str:
    """`base`, or `without_paths` in a name of at most 80 characters."""
    text = ",".join(words(without_paths(config), comma="+"))
    name = re.sub(r"[^A-Za-z0-9_.,=+-]+", "-", text)
    if name != text or len(name) > 80:
        name = f"{name[:71]}-{sha256(text.encode())[:8]}"
    return name or "base"


def folder(config: dict) -> Path:
    """outputs/<dataset>/<teacher>-<student>/<distill>/<variant>/seed<k>, or
    outputs/<dataset>/<network>/none/<variant>/seed<k>."""
    teacher, student = config["model"]["teacher"], config["model"]["student"]
    pair = f"{teacher['name']}-{student['name']}" if teacher else student["name"]
    return Path(
        config["paths"]["outputs"],
        config["dataset"]["name"],
        pair,
        config["distill"]["name"],
        variant(config),
        f"seed{config['seed']}",
    )


def settings(config: dict) -> dict:
    """Everything that affects the numbers and differs from the default in the schema or the constructor. Values are as
    asked for, so `auto` stays auto and a new key at its default changes nothing."""
    of_tables = {key: config["distill"][key] for key in ("label", "note", "control")}  # don't affect the numbers
    defaults = dict(DISTILL) | {"name": None, **of_tables}
    defaults = {f"distill.{key}": value for key, value in defaults.items()}
    defaults |= {f"augment.{key}": value for key, value in AUGMENT.items()}
    for section, schema in (("dataset", Dataset()), ("recipe", Recipe())):
        defaults |= {f"{section}.{key}": value for key, value in vars(schema).items()}
    for section, node in (
        ("distill", config["distill"]),
        ("augment", config.get("augment", AUGMENT)),  # missing in records of earlier versions
        ("optimizer", config["optimizer"]),
        ("model.student", config["model"]["student"]),
    ):
        if node["_target_"]:
            built = signature_defaults(target(node, config["plugins"]))
            defaults |= {f"{section}.{key}": value for key, value in built.items()}
    if own := parameters(config["dataset"], DATASET):
        built = signature_defaults(target(config["dataset"], config["plugins"]))
        defaults |= {f"dataset.{key}": built[key] for key in own if key in built}
    top = {
        key: value
        for key, value in vars(Config()).items()
        if key not in ("seed", "teacher_seed", "epochs", "batch_size")
    }
    skipped = {"tag", "teacher_checkpoint", "teacher_seed", "model.student.name", "optimizer.name"}
    flat = {
        key: value
        for key, value in without_places(flatten(config)).items()
        if not key.startswith("model.teacher") and key not in skipped and key.partition(".")[0] not in CIRCUMSTANCES
    }
    asked = {key: value for key, value in flat.items() if value != (defaults | top).get(key, MISSING_DEFAULT)}
    if config["distill"]["_target_"] and (version := target(config["distill"], config["plugins"]).version) != 1:
        asked["distill.version"] = version
    if config["teacher_checkpoint"]:
        asked["teacher_checkpoint"] = file_sha256(config["teacher_checkpoint"])
    elif teachers := [settings(teacher) for teacher in teachers_of(config)]:
        asked |= {"teacher": teachers[0]} if len(teachers) == 1 else {"teachers": teachers}
    return asked


MISSING_DEFAULT = object()


def fingerprint(config: dict) -> str:
    """16 hexadecimal digits of the sha256 of `settings`, the teacher's included."""
    return sha256(json.dumps(settings(config), sort_keys=True).encode())[:16]
