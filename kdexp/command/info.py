"""`python run.py --info`: what a bug report should say about a machine, without user and host names."""

import os
import platform
from importlib import metadata
from pathlib import Path

import torch

from kdexp import INSTALLED, __version__
from kdexp.config.schema import Paths
from kdexp.record.private import Names
from kdexp.training.result import git_commit

NEEDED = "torchvision hydra-core omegaconf numpy pillow pandas scipy scikit-learn matplotlib rich filelock".split()
OPTIONAL = "joblib submitit ray hydra-optuna-sweeper tensorboard wandb mlflow timm onnx onnxscript onnxruntime".split()


def text() -> str:
    """Versions, devices, folders, one line each."""
    torch_built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    lines = {
        "kdexp": f"{__version__}, {'installed from a wheel' if INSTALLED else ' '.join(['checkout', git_commit() or ''])}",
        "python": f"{platform.python_version()}, {platform.system()} {platform.release()} {platform.machine()}",
        "torch": f"{torch.__version__}, {torch_built}, {torch.backends.cpu.get_cpu_capability()}",
        "devices": ", ".join(_devices()),
        "packages": ", ".join(map(_version, NEEDED)),
        "optional": ", ".join(map(_version, OPTIONAL)),
        **{f"paths.{key}": _folder(key, default) for key, default in vars(Paths()).items()},
    }
    return Names().hidden("\n".join(f"{name:14}{line}" for name, line in lines.items()))


def _devices() -> list[str]:
    gpus = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    found = [f"cuda:{number} {gpu.name} {gpu.total_memory / 2**30:.0f} GiB" for number, gpu in enumerate(gpus)]
    apple = ["mps"] if torch.backends.mps.is_available() else []
    return [f"cpu ({os.cpu_count()} cores, threads={torch.get_num_threads()})", *found, *apple]


def _version(package: str) -> str:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"{package} -"


def _folder(key: str, default: str) -> str:
    """The folder that paths.KEY refers to here, and whether it exists."""
    variable = f"KDEXP_{key.upper()}"
    folder = os.environ.get(variable, default)
    there = "" if Path(folder).is_dir() else ", not there yet"
    return folder + there + (f" (${variable})" if variable in os.environ else "")
