"""Packs records into a zip to share, with new checksums and without weights, logs and private details; and unpacks them."""

import json
import os
import zipfile
from pathlib import Path, PurePosixPath

from omegaconf import OmegaConf

from kdexp import screen
from kdexp.errors import UsageError
from kdexp.record.private import Names, shared_config, shared_error, without_folders
from kdexp.record.runs import Run
from kdexp.storage import seal
from kdexp.storage.files import writing

PLAIN = ("epochs.csv", "predictions.npy", "pretraining.csv", "right.npy")
WEIGHTS = ("logits.npy", "student.pt")  # only included with --weights
FILES = (
    "config.yaml",
    *PLAIN,
    *WEIGHTS,
    "result.json",
    "run.log",
    "status.json",
)  # run.log: in zips of earlier versions
LEAVE = {"running": "it is still running", "stopped": "it has not finished", "damaged": "it is damaged"}


def pack(runs: list[Run], file: Path, weights: bool) -> list[Run]:
    """Write the finished and failed runs into a zip laid out like outputs/, and say what is left out. The same records
    always give the same bytes. Returns the runs in the zip. Raises UsageError."""
    left: set[tuple[str, str]] = set()
    within: dict[Path, Run] = {}
    for run in sorted(runs, key=lambda run: run.state != "done"):  # of two copies of a run, keep the finished one
        if why := _why_not(run, within):
            screen.say(f"left out: {run.folder}: {why}")
        else:
            within[run.place] = run
    if not within:
        raise UsageError("nothing to pack: none of these runs has finished or failed")
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    with writing(file, "Choose another place with --to OUT.zip"):
        try:
            with zipfile.ZipFile(temporary, "w") as archive:
                for place in sorted(within):
                    left |= _add(archive, place, within[place], weights)
            os.replace(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)
    if left:
        names = ", ".join(sorted({name for name, _ in left}))
        screen.say(f"still in the zip, as part of a run's name or settings: {names}   ({min(left)[1]})")
    return [within[place] for place in sorted(within)]


def _why_not(run: Run, within: dict[Path, Run]) -> str:
    """Why a run is left out; empty if it is not."""
    if run.state in LEAVE:
        return LEAVE[run.state]
    if broken := seal.damaged(run.folder):
        return f"damaged {', '.join(broken)}"
    return f"it is the same run as {within[run.place].folder}" if run.place in within else ""


def _add(archive: zipfile.ZipFile, place: Path, run: Run, weights: bool) -> set[tuple[str, str]]:
    """Add a run's files. Returns private names that are still in a text, each with its file."""
    names, left = Names((run.status or {}).get("host")), set()
    for name, content in sorted(_files(run, names, weights).items()):
        path = (place / name).as_posix()
        entry = zipfile.ZipInfo(path)  # always dated 1980, so that the same records give the same bytes
        entry.create_system, entry.external_attr = 3, 0o644 << 16
        entry.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(entry, content)
        text = content.decode() if not name.endswith((".pt", ".npy")) else ""
        left |= {(word, path) for word in names.within(f"{path} {text}")}
    return left


def _files(run: Run, names: Names, weights: bool) -> dict[str, bytes]:
    """What goes into the zip: name -> content."""
    whole = (*PLAIN, *WEIGHTS) if weights else PLAIN
    files = {name: (run.folder / name).read_bytes() for name in whole if (run.folder / name).exists()}
    if weights and run.result and "student.pt" not in files:
        screen.say(f"{run.folder} has no student.pt, so it is packed without weights")
    files["config.yaml"] = OmegaConf.to_yaml(OmegaConf.create(shared_config(run.config))).encode()
    if run.status:
        status = {key: value for key, value in run.status.items() if key not in ("host", "pid")}
        files["status.json"] = _json(
            status | {"error": status.get("error") and shared_error(str(status["error"]), names)}
        )
    if run.result:
        files["result.json"] = _json(seal.sealed(without_folders(run.result), files))
    return files


def _json(content: dict) -> bytes:
    return json.dumps(content, indent=1).encode()


def unpack(file: Path, folder: Path) -> None:
    """Extract the records in a zip, and nothing else, below `folder`. Raises UsageError for paths that lead outside
    it."""
    try:
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                path = PurePosixPath(name)
                if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
                    raise UsageError(f"{file}: {name} would land outside its folder; this is not a zip of records")
                if path.name in FILES:
                    archive.extract(name, folder)
    except (zipfile.BadZipFile, EOFError) as error:
        raise UsageError(f"{file} is not a complete zip ({error}). Pack it again, or copy it again") from None
