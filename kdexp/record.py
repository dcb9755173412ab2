"""The folder of one run: its lock, its state and its files. Every file is written whole under another name and
renamed."""

import csv
import io
import json
import os
import pickle
import shutil
import socket
import time
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from kdexp.schema import UsageError

COLUMNS = (
    "epoch",
    "lr",
    "train_loss",
    "ce_loss",
    "distill_loss",
    "train_acc",
    "test_loss",
    "test_acc",
    "test_top5",
    "val_acc",
    "seconds",
)


def write_atomically(path: Path, content: bytes) -> None:
    """Readers see the old file or the new one, whatever happens in between."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def torch_bytes(value) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


class Record:
    """One run on disk. `with record.lock(...)` before anything is written: two processes never write to one folder."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self._lock = None

    def lock(self, wait: bool = False) -> bool:
        """Take the folder for this process; False if another one has it and `wait` is not set. The lock ends with
        the process."""
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self._lock = self._lock or FileLock(self.folder.with_name(f".{self.folder.name}.lock"))
            self._lock.acquire(timeout=-1 if wait else 0)
        except Timeout:
            return False
        except OSError as error:
            raise UsageError(
                f"paths.outputs: {self.folder.parent} cannot be written ({error.strerror}). Choose another with paths.outputs=DIR"
            ) from None
        return True

    def unlock(self) -> None:
        self._lock.release()

    def _json(self, name: str) -> dict:
        try:
            content = json.loads((self.folder / name).read_text())
        except (OSError, ValueError):
            return {}  # not there yet
        return content if isinstance(content, dict) else {}

    @property
    def status(self) -> dict:
        return self._json("status.json")

    @property
    def result(self) -> dict:
        """result.json of a finished run, else {}."""
        return self._json("result.json")

    @property
    def config(self) -> dict:
        return OmegaConf.to_container(OmegaConf.load(self.folder / "config.yaml"))

    def start(self, config: dict, fingerprint: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(config)).encode())
        self.heartbeat(fingerprint=fingerprint, started=time.strftime("%Y-%m-%d %H:%M:%S"))

    def heartbeat(self, **changes) -> None:
        """Say that this process is at work on the run."""
        known = {key: value for key, value in self.status.items() if key in ("fingerprint", "started")}
        self._write_json(
            "status.json",
            {
                "status": "running",
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "heartbeat": time.time(),
                **known,
                "error": None,
                **changes,
            },
        )

    def _write_json(self, name: str, content: dict) -> None:
        write_atomically(self.folder / name, json.dumps(content, indent=1).encode())

    def log(self, text: str) -> None:
        with open(self.folder / "run.log", "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}\n")

    def clear(self) -> None:
        """Forget the run: rerun=all."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def rows(self, epochs: int) -> list[dict]:
        """The first `epochs` rows of epochs.csv, as numbers."""
        path = self.folder / "epochs.csv"
        if not epochs or not path.exists():
            return []
        with open(path, newline="") as file:
            rows = [
                {key: float(value) if value else None for key, value in row.items()} for row in csv.DictReader(file)
            ]
        return [{**row, "epoch": int(row["epoch"])} for row in rows[:epochs]]

    def save_rows(self, rows: list[dict]) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.folder / "epochs.csv", text.getvalue().encode())

    def save_checkpoint(self, state: dict) -> None:
        write_atomically(self.folder / "checkpoint.pt", torch_bytes(state))

    def checkpoint(self, device: torch.device) -> dict | None:
        """The state to go on from, or None. A damaged file is set aside as checkpoint.pt.damaged, and said so in
        run.log."""
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return None
        try:
            return torch.load(path, map_location=device, weights_only=True)
        except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
            os.replace(path, path.with_name("checkpoint.pt.damaged"))
            self.log(
                f"checkpoint.pt is damaged and was set aside ({type(error).__name__}); starting from the first epoch"
            )
            return None

    def finish(self, weights: bytes, predictions: np.ndarray, result: dict) -> None:
        """Write what stays, result.json last."""
        write_atomically(self.folder / "student.pt", weights)
        buffer = io.BytesIO()
        np.save(buffer, predictions.astype(np.uint8))
        write_atomically(self.folder / "predictions.npy", buffer.getvalue())
        self.heartbeat(status="done")
        self._write_json("result.json", result)
        (self.folder / "checkpoint.pt").unlink(missing_ok=True)

    def fail(self, state: str, line: str, trace: str) -> None:
        """state: failed or diverged."""
        self.log(f"{line}\n{trace}".rstrip())
        self.heartbeat(status=state, error=line)
