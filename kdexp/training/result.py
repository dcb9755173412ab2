"""result.json: what a finished run was, and what it was made with."""

import platform
import resource
import subprocess
import sys

import torch

from kdexp import INSTALLED, ROOT, __version__
from kdexp.compute.machine import Machine
from kdexp.config import naming
from kdexp.config.naming import file_sha256
from kdexp.config.targets import target
from kdexp.jobs.job import Job
from kdexp.models import count_parameters
from kdexp.storage.seal import sha256
from kdexp.training.learner import Learner


def result_of(
    job: Job,
    learner: Learner,
    hardware: Machine,
    group_size: int,
    rows: list[dict],
    images: int,
    weights: bytes,
) -> dict:
    """The result of a run from its epochs' rows. `images`: training images per epoch. `weights`: student.pt."""
    given = job.config["teacher_checkpoint"]
    return {
        **_identity(job),
        **_scores(rows),
        "teacher_test_acc": job.origins[0]["test_acc"] if job.origins else None,
        "teachers": job.origins,
        "params": count_parameters(learner.student),
        **_cost(rows, learner.pretraining_rows, images),
        "peak_memory_mb": peak_memory(hardware.device) / 2**20,
        "device": device_name(hardware.device),
        "precision": "bf16" if hardware.half else "fp32",
        "compile": "graph" if hardware.graph else hardware.compile,
        "deterministic": hardware.deterministic,
        "threads": hardware.threads,
        "group_size": group_size,
        "fingerprint": job.fingerprint,
        "sources": job.sources,
        "student_sha256": sha256(weights),
        "teacher_checkpoint_sha256": file_sha256(given) if given else None,
        "versions": _versions(job),
        "git": git_commit(),
    }


def _identity(job: Job) -> dict:
    config = job.config
    teacher, student = config["model"]["teacher"], config["model"]["student"]
    return {
        "dataset": config["dataset"]["name"],
        "teacher": teacher and teacher["name"],
        "student": student["name"],
        "distill": config["distill"]["name"],
        "seed": config["seed"],
        "teacher_seed": config["teacher_seed"],
        "recipe": config["recipe"]["name"],
        "epochs": config["epochs"],
        "stop_epoch": config["stop_epoch"],
        "batch_size": config["batch_size"],
        "limit": config["dataset"]["limit"],
        "variant": job.record.folder.parent.name,
        "settings": naming.words(naming.without_paths(config)),
    }


def _scores(rows: list[dict]) -> dict:
    last = rows[-1]
    return {
        "test_acc": last["test_acc"],
        "best_test_acc": max(row["test_acc"] for row in rows),
        "test_top5": last["test_top5"],
        "test_loss": last["test_loss"],
        "val_acc": last["val_acc"],
        "test_acc_best_val": best_by_validation(rows),
    }


def _cost(rows: list[dict], pretraining: list[dict], images: int) -> dict:
    """`seconds` includes the pretraining, the other two are of the student's own epochs."""
    epochs, seconds = rows[-1]["epoch"], sum(row["seconds"] for row in rows)  # no epoch for an untrained network
    before = sum(row["seconds"] for row in pretraining)
    return {
        "seconds": seconds + before,
        **({"pretrain_epochs": len(pretraining), "pretrain_seconds": before} if pretraining else {}),
        "seconds_per_epoch": seconds / epochs if epochs else None,
        "images_per_second": images * epochs / seconds if epochs else None,
    }


def _versions(job: Job) -> dict:
    versions = {"kdexp": __version__, "python": platform.python_version(), "torch": torch.__version__}
    if job.config["distill"]["_target_"]:
        versions["method"] = target(job.config["distill"], job.config["plugins"]).version
    return versions


def best_by_validation(rows: list[dict]) -> float | None:
    """The test accuracy of the epoch with the best validation accuracy, the first one if tied; None if nothing is held
    out."""
    if rows[-1]["val_acc"] is None:
        return None
    return max(rows, key=lambda row: row["val_acc"])["test_acc"]


def peak_memory(device: torch.device) -> int:
    """Bytes: the device's tensors on CUDA, else the whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def device_name(device: torch.device) -> str:
    return f"{device} {torch.cuda.get_device_name(device)}" if device.type == "cuda" else device.type


def git_commit() -> str | None:
    """The commit of this checkout, "-dirty" with uncommitted changes; None without git or from a wheel."""
    if INSTALLED:
        return None  # site-packages may be inside a repository of the user's
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
