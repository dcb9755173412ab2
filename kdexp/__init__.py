"""Knowledge-distillation experiments: a teacher, students, methods, seeds, and the table of a paper."""

from kdexp.api import load, run, runs
from kdexp.places import CONF, INSTALLED, ROOT, SWEEPS

__version__ = "0.1.0"
__all__ = ["CONF", "INSTALLED", "ROOT", "SWEEPS", "load", "run", "runs"]
