"""result.json: what a finished run was, and what it was made with."""

import platform
import resource
import subprocess
import sys

import torch

from kdexp import INSTALLED, ROOT, __version__
from kdexp.config.naming import file_sha256
from kdexp.config.targets import target
from kdexp.job import Job
from kdexp.learner import Learner
from kdexp.machine import Machine
from kdexp.models import count_parameters
from kdexp.record.seal import sha256


def result_of(
    job: Job,
    learner: Learner,
    where: Machine,
    group_size: int,
    rows: list[dict],
    images: int,
    teacher_acc: float | None,
    weights: bytes,
) -> dict:
    """The result of a run from its epochs' rows. `images`: training images per epoch. `weights`: student.pt."""
    config, last, node = job.config, rows[-1], job.config["distill"]
    given, seconds = config["teacher_checkpoint"], sum(row["seconds"] for row in rows)
    epochs = last["epoch"]  # 0 for an untrained network
    before = {}
    if learner.pretraining_rows:
        before = {
            "pretrain_epochs": len(learner.pretraining_rows),
            "pretrain_seconds": sum(row["seconds"] for row in learner.pretraining_rows),
        }
    method_version = {"method": target(node, config["plugins"]).version} if node["_target_"] else {}
    return {
        "dataset": config["dataset"]["name"],
        "teacher": config["model"]["teacher"] and config["model"]["teacher"]["name"],
        "student": config["model"]["student"]["name"],
        "distill": node["name"],
        "seed": config["seed"],
        "teacher_seed": config["teacher_seed"],
        "recipe": config["recipe"]["name"],
        "epochs": config["epochs"],
        "stop_epoch": config["stop_epoch"],
        "batch_size": config["batch_size"],
        "limit": config["dataset"]["limit"],
        "variant": job.record.folder.parent.name,
        "test_acc": last["test_acc"],
        "best_test_acc": max(row["test_acc"] for row in rows),
        "test_top5": last["test_top5"],
        "test_loss": last["test_loss"],
        "val_acc": last["val_acc"],
        "test_acc_best_val": best_by_validation(rows),
        "teacher_test_acc": teacher_acc,
        "params": count_parameters(learner.student),
        "seconds": seconds + before.get("pretrain_seconds", 0.0),
        **before,
        "seconds_per_epoch": seconds / epochs if epochs else None,
        "images_per_second": images * epochs / seconds if epochs else None,
        "peak_memory_mb": peak_memory(where.device) / 2**20,
        "device": device_name(where.device),
        "precision": "bf16" if where.half else "fp32",
        "compile": "graph" if where.graph else where.compile,
        "deterministic": where.deterministic,
        "threads": where.threads,
        "group_size": group_size,
        "fingerprint": job.fingerprint,
        "student_sha256": sha256(weights),
        "teacher_checkpoint_sha256": file_sha256(given) if given else None,
        "versions": {
            "kdexp": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            **method_version,
        },
        "git": git_commit(),
    }


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
