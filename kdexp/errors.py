"""Mistakes that a user can mend, a training that was stopped, and optional packages that may be missing."""

import importlib


class UsageError(Exception):
    """A problem with what a user typed or has on disk: reported in one message, without a traceback."""


class Unfit(UsageError):
    """A method that cannot handle a pair of networks, or the values it was given."""


class Stopped(Exception):
    """Training was stopped early, and everything is saved."""

    def __init__(self, why: str, exit_code: int):
        super().__init__(f"{why}, saved.   Go on: type the same command again.")
        self.exit_code = exit_code


def first_line(error: BaseException) -> str:
    """The first line of any error's message (a compiler's may have thousands of lines); its type if there is no
    message."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def needed(package: str, extra: str = ""):
    """Import an optional package. Raises ValueError with the command that installs it."""
    try:
        return importlib.import_module(package)
    except ImportError:
        raise ValueError(f'the package {package} is not installed: pip install -e ".[{extra or package}]"') from None
