"""Records in a zip for others, and out of it: without weights, without what is private, and sealed anew."""

import json
import os
import zipfile
from pathlib import Path, PurePosixPath

from omegaconf import OmegaConf

from kdexp import screen
from kdexp.config.schema import UsageError
from kdexp.record import seal
from kdexp.record.files import writing
from kdexp.record.private import Private, Scrub
from kdexp.record.runs import Run

PLAIN = ("epochs.csv", "predictions.npy", "pretraining.csv", "right.npy")
WEIGHTS = ("logits.npy", "student.pt")  # what only comes along with --weights
FILES = ("config.yaml", *PLAIN, *WEIGHTS, "result.json", "run.log", "status.json")
LEAVE = {"running": "it is running", "stopped": "it has not come to its end", "damaged": "it is not as it was written"}


def pack(runs: list[Run], file: Path, outputs: list[str], weights: bool) -> list[Run]:
    """Write the finished and the failed runs into a zip in the layout of outputs/, always the same bytes; names what
    is left out. Returns those within. Raises UsageError."""
    private, left = Private(outputs), set()
    within: dict[Path, Run] = {}
    for run in sorted(runs, key=lambda run: run.state != "done"):  # of two of the same, the finished one
        if why := _why_not(run, within):
            screen.say(f"left out: {run.folder}: {why}")
        else:
            within[run.place] = run
    if not within:
        raise UsageError("nothing to pack: no run among these has come to its end")
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    with writing(file, "Choose another place with --to OUT.zip"):
        try:
            with zipfile.ZipFile(temporary, "w") as archive:
                for place in sorted(within):
                    left |= _add(archive, place, within[place], private.of(within[place]), weights)
            os.replace(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)
    if left:
        names = ", ".join(sorted({name for name, _ in left}))
        screen.say(f"still in there, as part of what a run is called or made of: {names}   ({min(left)[1]})")
    return [within[place] for place in sorted(within)]


def _why_not(run: Run, within: dict[Path, Run]) -> str:
    """Why a run cannot come along; empty if it can."""
    if run.state in LEAVE:
        return LEAVE[run.state]
    if broken := seal.damaged(run.folder):
        return f"{', '.join(broken)} not as written"
    return f"it is the same run as {within[run.place].folder}" if run.place in within else ""


def _add(archive: zipfile.ZipFile, place: Path, run: Run, scrub: Scrub, weights: bool) -> set[tuple[str, str]]:
    """Add a run's files. Returns names that still stand in a text, each with its file."""
    left = set()
    for name, content in sorted(_files(run, scrub, weights).items()):
        path = (place / name).as_posix()
        entry = zipfile.ZipInfo(path)  # of 1980, as all are: the same records make the same bytes
        entry.create_system, entry.external_attr = 3, 0o644 << 16
        entry.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(entry, content)
        text = content.decode() if not name.endswith((".pt", ".npy")) else ""
        left |= {(word, path) for word in scrub.left(f"{path} {text}")}
    return left


def _files(run: Run, scrub: Scrub, weights: bool) -> dict[str, bytes]:
    """What goes into the zip: name -> content."""
    names = (*PLAIN, *WEIGHTS) if weights else PLAIN
    files = {name: (run.folder / name).read_bytes() for name in names if (run.folder / name).exists()}
    if weights and run.result and "student.pt" not in files:
        screen.say(f"{run.folder} has no student.pt: it comes without")
    files["config.yaml"] = OmegaConf.to_yaml(OmegaConf.create(scrub.config(run.config))).encode()
    if (run.folder / "run.log").exists():
        files["run.log"] = scrub((run.folder / "run.log").read_text(encoding="utf-8", errors="replace")).encode()
    if run.status:
        status = {key: value for key, value in run.status.items() if key not in ("host", "pid")}
        files["status.json"] = _json(status | {"error": run.status.get("error") and scrub(str(run.status["error"]))})
    if run.result:
        files["result.json"] = _json(seal.sealed(run.result, files))
    return files


def _json(content: dict) -> bytes:
    return json.dumps(content, indent=1).encode()


def unpack(file: Path, folder: Path) -> None:
    """The records of a zip, below `folder`; nothing else of it, and nothing elsewhere. Raises UsageError."""
    try:
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                path = PurePosixPath(name)
                if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
                    raise UsageError(f"{file}: {name} would land outside its folder; this zip is not one of records")
                if path.name in FILES:
                    archive.extract(name, folder)
    except (zipfile.BadZipFile, EOFError) as error:
        raise UsageError(f"{file} is no whole zip ({error}). Have it packed or sent again") from None
