"""Knowledge-distillation experiments: a teacher, students, methods, seeds, and the table of a paper."""

import os
import sys
from pathlib import Path

__version__ = "0.1.0"
ROOT = Path(__file__).resolve().parent.parent
CONF, SWEEPS = ROOT / "conf", ROOT / "sweeps"

# Hydra takes launchers and sweepers from the namespace package hydra_plugins only; ours lies inside this package.
_PLUGINS = str(Path(__file__).resolve().parent / "_hydra")
if _PLUGINS not in sys.path:
    sys.path.append(_PLUGINS)


def load(run_folder: str | os.PathLike):
    """The trained network of a run, on the CPU in eval mode, with its configuration as `.config`.

    Raises FileNotFoundError if the folder has no student.pt yet.
    """
    from kdexp.teacher import load_network

    return load_network(Path(run_folder))
