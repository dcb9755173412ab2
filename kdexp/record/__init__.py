"""The folder of one run: its lock, its state and its files. Every file is written under a temporary name and then
renamed."""

import contextlib
import csv
import io
import json
import os
import shutil
import socket
import time
from pathlib import Path

import yaml
from filelock import Timeout
from omegaconf import OmegaConf

from kdexp import screen
from kdexp.record import config
from kdexp.storage import lease, seal
from kdexp.storage.files import npy_bytes, torch_bytes, write_atomically, writing

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
KEPT = ("fingerprint", "started", "sources", "teachers")  # what status.json says from the start to the end
PRETRAINING_COLUMNS = ("epoch", "lr", "loss", "seconds")  # of pretraining.csv, if the method has one


class Record:
    """One run on disk; what is wanted is a Job (kdexp/jobs/job.py). `lock` before anything is written: two processes never
    write to one folder."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        self._lease: lease.SoftFileLease | None = None

    def lock(self) -> bool:
        """Lock the folder for this process; False if another process is working on it."""
        with writing(self.folder.parent):
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            # one object for all attempts: it watches whether the holder keeps touching the file
            self._lease = self._lease or lease.of(self.folder)
            try:
                self._lease.acquire(timeout=0)
            except Timeout:
                return False
        if lease.is_live(self.status):  # its process is running and cannot see our lease
            self._lease.release()
            return False
        return True

    @property
    def held(self) -> bool:
        """Whether this process still holds the lock, or never took it."""
        return self._lease is None or lease.is_held(self._lease)

    def unlock(self) -> None:
        if (self.folder / "result.json").exists() and self.held:
            for path in self._leftovers():
                path.unlink(missing_ok=True)
        self._lease.release()

    def tidy(self) -> None:
        """Remove what a killed process left behind in a finished run: its lease, its checkpoint, half-written
        files."""
        left = [*self._leftovers(), self.folder.with_name(f".{self.folder.name}.lock")]
        if any(path.exists() for path in left) and os.access(self.folder.parent, os.W_OK) and self.lock():
            self.unlock()

    def _half_written(self) -> list[Path]:
        """What `write_atomically` left behind in a killed process: .NAME.PID of a file of ours, and nothing else."""
        names = (*seal.SEALED, "status.json", "result.json", "checkpoint.pt")
        found = (self.folder.glob(f".{name}.*") for name in names)
        return [path for some in found for path in some if path.suffix[1:].isdecimal() and not path.is_dir()]

    def _leftovers(self) -> list[Path]:
        return [*self._half_written(), self.folder / "checkpoint.pt"]

    @property
    def status(self) -> dict:
        """status.json; {} if it is missing or damaged."""
        return seal.read_json(self.folder / "status.json") or {}

    @property
    def result(self) -> dict:
        """result.json of a finished run, else {}."""
        return seal.read_json(self.folder / "result.json") or {}

    @property
    def config(self) -> dict:
        """config.yaml, cached by `config.parse`, so don't modify it; {} if it is missing or damaged."""
        try:
            return config.parse((self.folder / "config.yaml").read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError, yaml.YAMLError):
            return {}

    def set_aside(self, name: str, why: str) -> None:
        """Rename a damaged file to NAME.damaged, and say so."""
        line = f"{self.folder / name} is missing"
        if (self.folder / name).exists():
            line = f"{self.folder / name} is damaged ({why}) and was set aside as {name}.damaged"
        screen.say(line)
        self.log(line)  # before renaming, so that the log names the file even if the disk is full
        with writing(self.folder / name), contextlib.suppress(FileNotFoundError):
            os.replace(self.folder / name, self.folder / f"{name}.damaged")

    def start(self, config: dict, fingerprint: str, **made_with) -> None:
        """Start or resume: remove an earlier result and anything a killed process left half-written. made_with: more
        that status.json keeps."""
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            for leftover in (*self._half_written(), self.folder / "result.json"):
                leftover.unlink(missing_ok=True)
        write_atomically(self.folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(config)).encode())
        self.heartbeat(fingerprint=fingerprint, started=time.strftime("%Y-%m-%d %H:%M:%S"), **made_with)

    def heartbeat(self, **changes) -> None:
        """Note in status.json that this process is working on the run."""
        known = {key: value for key, value in self.status.items() if key in KEPT}
        where = {"pid": os.getpid(), "host": socket.gethostname(), "heartbeat": time.time()}
        self._write_json("status.json", {"status": "running", **where, **known, "error": None, **changes})

    def _write_json(self, name: str, content: dict) -> None:
        write_atomically(self.folder / name, json.dumps(content, indent=1).encode())

    def log(self, text: str) -> None:
        with writing(self.folder / "run.log"), open(self.folder / "run.log", "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}\n")

    def clear(self) -> None:
        """Delete the run, to train it from scratch."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def save_rows(self, rows: list[dict], name: str = "epochs.csv", columns: tuple[str, ...] = COLUMNS) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.folder / name, text.getvalue().encode())

    def save_logits(self, logits) -> None:
        """logits: (N, classes) of the test images, an array; kept as float16, or as float32 if they are larger than
        float16 can be."""
        kind = "float16" if abs(logits).max(initial=0) <= 65504 else "float32"
        write_atomically(self.folder / "logits.npy", npy_bytes(logits.astype(kind)))

    def save_right(self, bits) -> None:
        """bits: from np.packbits, whether each test image was classified correctly, eight images per byte; the number
        of images is that of predictions.npy. This lets runs be compared image by image without the data set."""
        write_atomically(self.folder / "right.npy", npy_bytes(bits))

    def save_checkpoint(self, state: dict) -> None:
        """torch.save's bytes followed by their sha256, because torch.load doesn't notice a flipped bit."""
        content = torch_bytes(state)
        write_atomically(self.folder / "checkpoint.pt", content + bytes.fromhex(seal.sha256(content)))

    def checkpoint(self, device) -> dict | None:
        """The state to resume from, or None. A damaged file is set aside."""
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return None
        content = path.read_bytes()
        if bytes.fromhex(seal.sha256(content[:-32])) != content[-32:]:
            self.set_aside(path.name, "its checksum does not match; the run starts over from epoch 1")
            return None
        import torch  # imported here, so that records can be listed without it

        return torch.load(io.BytesIO(content[:-32]), map_location=device, weights_only=True)

    def finish(self, weights: bytes, predictions, result: dict) -> None:
        """Write the final files, result.json last. predictions: (N,) integers, an array."""
        write_atomically(self.folder / "student.pt", weights)
        kind = "uint8" if predictions.max(initial=0) < 256 else "uint16"
        write_atomically(self.folder / "predictions.npy", npy_bytes(predictions.astype(kind)))
        self.heartbeat(status="done")
        files = {name: (self.folder / name).read_bytes() for name in seal.SEALED if (self.folder / name).exists()}
        self._write_json("result.json", seal.sealed(result, files))
        (self.folder / "checkpoint.pt").unlink(missing_ok=True)

    def fail(self, state: str, line: str, trace: str) -> None:
        """state: failed or diverged."""
        self.log(f"{line}\n{trace}".rstrip())
        self.heartbeat(status=state, error=line)
