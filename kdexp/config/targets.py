"""What a `_target_` in a configuration means: a class or function, and the rest of its node as the arguments."""

import importlib
import inspect

from hydra.utils import get_class, get_method
from torch.overrides import TorchFunctionMode

from kdexp.config.schema import UsageError, first_line


def parameters(node: dict, common=()) -> dict:
    """The constructor's arguments in a `_target_` node: everything but `name`, `_target_` and the keys in `common`."""
    return {key: value for key, value in node.items() if key not in {"name", "_target_", *common}}


def target(node: dict, plugins=()):
    """The class or function a `_target_` names. Raises UsageError outside kdexp, torch.optim and the packages in
    `plugins`."""
    path = str(node["_target_"])
    if not any(path.startswith(f"{package}.") for package in ("kdexp", "torch.optim", *plugins)):
        raise UsageError(
            f"_target_={path}: only names below kdexp, torch.optim and the packages in plugins=[...] are run"
        )
    try:
        found = (get_class if path.rpartition(".")[2][:1].isupper() else get_method)(path)
    except Exception as error:  # whatever importing a user's module raises
        raise UsageError(f"_target_={path}: {first_line(error)}") from None
    return found


def signature_defaults(function) -> dict:
    """Parameter -> default of a constructor; lists for tuples, as a configuration has them."""
    return {
        name: list(p.default) if isinstance(p.default, tuple) else p.default
        for name, p in inspect.signature(function).parameters.items()
    }


def constructor(node: dict, given: int, plugins, common=()):
    """What a `_target_` node names. Raises UsageError for a parameter that it does not have beside the first
    `given`."""
    made = target(node, plugins)
    known = list(inspect.signature(made).parameters)[given:]
    for key in parameters(node, common):
        if key not in known:
            allowed = [*known, *(name for name in common if name not in ("label", "note", "control"))]
            raise UsageError(f"{node['name']} has no parameter '{key}'. It has: {', '.join(allowed)}")
    return made


def construct(node: dict, given: tuple, plugins, common=(), **more):
    """Build what a `_target_` node names. Raises UsageError for a parameter it does not have or a value it refuses."""
    made = constructor(node, len(given), plugins, common)
    try:
        return made(*given, **parameters(node, common), **more)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{node['name']}: {error}") from None


def needed(package: str, extra: str = ""):
    """A package that only some need. Raises ValueError with the command that installs it."""
    try:
        return importlib.import_module(package)
    except ImportError:
        raise ValueError(f'the package {package} is not installed: pip install -e ".[{extra or package}]"') from None


class ShapesOnly(TorchFunctionMode):
    """Inside, random initialisation does nothing: on the meta device it has nothing to fill, and takes seconds to
    find that out."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if getattr(function, "__name__", "") in ("normal_", "uniform_"):
            return args[0] if args else kwargs["tensor"]
        return function(*args, **(kwargs or {}))
