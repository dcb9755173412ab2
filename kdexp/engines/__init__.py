"""Where groups of jobs run: in this process, in others of this machine, on a cluster."""

import importlib


def needed(package: str, extra: str = ""):
    """An engine's package. Raises ValueError with the command that installs it."""
    try:
        return importlib.import_module(package)
    except ImportError:
        raise ValueError(f'the package {package} is not installed: pip install -e ".[{extra or package}]"') from None
