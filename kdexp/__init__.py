"""Knowledge-distillation experiments: a teacher, students, methods, seeds, and the table of a paper."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch takes seconds to import
    from torch import nn

__version__ = "0.1.0"
_HERE = Path(__file__).resolve().parent
_BUNDLED = _HERE / "_bundled"  # where a wheel keeps conf/, sweeps/ and analysis/; see pyproject.toml
INSTALLED = _BUNDLED.is_dir()  # from a wheel; False in a checkout, also after pip install -e
ROOT = _BUNDLED if INSTALLED else _HERE.parent
CONF, SWEEPS = ROOT / "conf", ROOT / "sweeps"

# ROOT holds the package analysis. Hydra finds launchers and sweepers only in the namespace package hydra_plugins;
# ours is inside this package.
sys.path += [folder for folder in (str(ROOT), str(_HERE / "_hydra")) if folder not in sys.path]


def load(run_folder: str | os.PathLike) -> nn.Module:
    """The trained network of a run, on the CPU in eval mode, with its configuration as `.config`.

    Raises FileNotFoundError if the folder has no student.pt yet.
    """
    from kdexp.teacher import load_network

    return load_network(Path(run_folder))
