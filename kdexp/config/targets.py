"""Resolves a `_target_` in a configuration: it names a class or function, and the rest of its node are the
arguments."""

import functools
import importlib
import inspect

from hydra.utils import get_class, get_method
from torch.overrides import TorchFunctionMode

from kdexp.errors import UsageError, first_line


def parameters(node: dict, common=()) -> dict:
    """The constructor's arguments in a `_target_` node: everything but `name`, `_target_` and the keys in `common`."""
    return {key: value for key, value in node.items() if key not in {"name", "_target_", *common}}


def target(node: dict, plugins=()):
    """The class or function a `_target_` names. Raises UsageError if it is outside kdexp, torch.optim and the packages
    in `plugins`."""
    path = str(node["_target_"])
    if not any(path.startswith(f"{package}.") for package in ("kdexp", "torch.optim", *plugins)):
        raise UsageError(
            f"_target_={path}: only names below kdexp, torch.optim and the packages in plugins=[...] are allowed"
        )
    _import(path)
    try:
        found = (get_class if path.rpartition(".")[2][:1].isupper() else get_method)(path)
    except Exception as error:  # whatever importing a user's module raises
        raise UsageError(f"_target_={path}: {first_line(error)}") from None
    return found


def _import(path: str) -> None:
    """Import the module that a `_target_` names. Raises UsageError with the place of a mistake in it."""
    module = path.rpartition(".")[0]
    try:
        importlib.import_module(module)
    except SyntaxError as error:
        raise UsageError(f"{error.filename}, line {error.lineno}: {error.msg}: {(error.text or '').strip()}") from None
    except ModuleNotFoundError as error:
        if not f"{module}.".startswith(f"{error.name}."):  # else there is no such module, which get_class says
            raise UsageError(f"_target_={path}: {module} imports {error.name}, which is not installed") from None
    except Exception as error:  # whatever importing a user's module raises
        raise UsageError(f"_target_={path}: importing {module} failed: {type(error).__name__}: {error}") from None


@functools.cache
def signature_defaults(function) -> dict:
    """Parameter of a constructor -> its default; tuples become lists, as in a configuration."""
    return {
        name: list(p.default) if isinstance(p.default, tuple) else p.default
        for name, p in inspect.signature(function).parameters.items()
    }


def constructor(node: dict, given: int, plugins, common=()):
    """What a `_target_` node names. Raises UsageError for a parameter it does not have; its first `given` don't
    count."""
    made = target(node, plugins)
    known = list(inspect.signature(made).parameters)[given:]
    for key in parameters(node, common):
        if key not in known:
            allowed = [*known, *(name for name in common if name not in ("label", "note", "control"))]
            raise UsageError(f"{node['name']} has no parameter '{key}'. It has: {', '.join(allowed)}")
    return made


def construct(node: dict, given: tuple, plugins, common=(), **more):
    """Build what a `_target_` node names. Raises UsageError for a parameter it does not have or a value it rejects."""
    made = constructor(node, len(given), plugins, common)
    try:
        return made(*given, **parameters(node, common), **more)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{node['name']}: {error}") from None


class ShapesOnly(TorchFunctionMode):
    """Inside, random initialization does nothing: on the meta device there is nothing to fill, and skipping it saves
    seconds."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__name__", "") in ("normal_", "uniform_"):
            return args[0] if args else kwargs["tensor"]
        return function(*args, **(kwargs or {}))
