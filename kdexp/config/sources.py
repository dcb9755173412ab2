"""Digests of a user's own code, so that a formula that changed since a run was made is noticed. Ours has `version`."""

import ast
import functools
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

from kdexp.config.targets import target
from kdexp.storage.seal import sha256


def sources(config: dict) -> dict[str, str]:
    """Section of the configuration (distill, model.student, dataset, augment, optimizer) -> digest of the code its object
    comes from, see `digest`. Only of those that come from a package in plugins=."""
    nodes = {key: config[key] for key in ("distill", "dataset", "augment", "optimizer")}
    nodes["model.student"] = config["model"]["student"]
    found = {section: source(node, config["plugins"]) for section, node in nodes.items()}
    return {section: digest for section, digest in found.items() if digest}


def source(node: dict, packages: list[str]) -> str | None:
    """The digest of the code behind one section; None if it is not from one of these packages."""
    path = str(node["_target_"])
    package = next((package for package in packages if path.startswith(f"{package}.")), None)
    return package and digest(path, package, target(node, packages).__module__)


@functools.cache
def digest(path: str, package: str, module: str) -> str:
    """16 hexadecimal digits that stand for the code behind a `_target_`: the module it names, the one that defines it,
    and whatever these import from `package`, the package of both. Comments, blank lines, and docstrings don't count."""
    seen: dict[str, object] = {}
    todo = [path.rpartition(".")[0], module]
    while todo:
        name = todo.pop()
        file = None if name in seen else _file(name, package)
        if file:
            tree = ast.parse(file.read_bytes())
            seen[name] = _plain(tree)
            todo += _imported(tree, name, is_package=file.name == "__init__.py")
    return sha256(json.dumps(seen, sort_keys=True).encode())[:16]


def _file(name: str, package: str) -> Path | None:
    """The source of a module of the package; None if it is of another one, or no module: `from mylab.losses import cosine` may
    name a function. Nothing is imported: a module may be there to be run."""
    first, *below = name.split(".")
    spec = importlib.util.find_spec(package) if first == package else None
    if spec is None:
        return None
    if spec.submodule_search_locations is None:  # a single file
        return None if below else Path(spec.origin)
    modules = [Path(place, *below) for place in spec.submodule_search_locations]
    candidates = [file for module in modules for file in (module / "__init__.py", module.with_suffix(".py"))]
    return next((file for file in candidates if file.is_file()), None)


def _imported(tree: ast.Module, module: str, is_package: bool) -> Iterator[str]:
    """Every name that may be a module that this one imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: len(module.split(".")) - node.level + is_package] if node.level else []
            name = ".".join([*above, *filter(None, [node.module])])
            yield name
            yield from (f"{name}.{alias.name}" for alias in node.names)


def _plain(node) -> object:
    """A syntax tree as lists, the same in every version of Python: without positions, docstrings, and empty fields."""
    if isinstance(node, list):
        return [_plain(one) for one in node if not _is_text(one)]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = ((name, value) for name, value in ast.iter_fields(node) if value is not None and value != [])
    return [type(node).__name__, *([name, _plain(value)] for name, value in fields)]


def _is_text(statement) -> bool:
    """A docstring, or any other string that stands alone."""
    return isinstance(statement, ast.Expr) and isinstance(getattr(statement.value, "value", None), str)
