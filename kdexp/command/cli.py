"""What Hydra must know before it reads the command line, and the messages when it rejects one."""

import contextlib
import os
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import hydra
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kdexp import INSTALLED, ROOT, SWEEPS
from kdexp.command import hints
from kdexp.config import plugins
from kdexp.config.compose import pair_axis, without_pair
from kdexp.config.network_names import mlp_name, resnet_name
from kdexp.config.schema import Config
from kdexp.errors import Stopped, UsageError
from kdexp.spelling import as_typed


def of_folder(key: str, *, _parent_, _root_):
    """A value measured on the images of a data set, by `key`. Decodes them first if necessary. Raises UsageError."""
    from kdexp.datasets import DatasetError  # these import torch, which --help doesn't need
    from kdexp.datasets.folder import measure

    try:
        return measure(_root_.paths.data, _parent_.get("root"), _parent_.get("size"))[key]
    except DatasetError as error:
        raise UsageError(f"{_parent_.name}: {error}") from None


def register(packages: Sequence[str] = ()) -> None:
    """Call before Hydra starts. packages: those in plugins=. Raises UsageError for one that is missing."""
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # exceptions reach `messages` instead of being printed by Hydra
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if not INSTALLED and str(ROOT) not in paths:  # for the processes that engines start
        os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, paths)])
    plugins.use(list(packages))
    _register_resolvers()
    _register_groups()


def _register_resolvers() -> None:
    # omegaconf 2.4 renames register_new_resolver to register_resolver, which in 2.3 is another function
    add = OmegaConf.register_resolver if hasattr(OmegaConf, "is_tuple") else OmegaConf.register_new_resolver
    add("kdexp.resnet_name", resnet_name, replace=True)
    add("kdexp.mlp_name", mlp_name, replace=True)
    add("kdexp.folder", of_folder, replace=True)


def _register_groups() -> None:
    """Register teacher= and student= as short names, methods in capitals and as their papers spell them, sweeps/ as a
    group, and the schema."""
    store = ConfigStore.instance()
    store.store(name="base_config", node=Config, provider="kdexp")
    for file in plugins.options("model"):
        for role in ("teacher", "student"):
            store.store(group=role, name=file.stem, package="_global_", node={}, provider="kdexp")
            store.store(
                group=f"model/{role}",
                name=file.stem,
                node={"defaults": [{"/model@_here_": file.stem}]},
                provider="kdexp",
            )
    for file in plugins.options("distill"):
        for name in {file.stem.upper(), OmegaConf.load(file).get("label") or ""} - {file.stem, ""}:
            # on a case-insensitive file system KD finds kd.yaml by itself, and Hydra would take an entry of that name
            # for its schema
            if not file.with_stem(name).exists():
                store.store(group="distill", name=name, node={"defaults": [file.stem]}, provider="kdexp")
    for file in sorted(SWEEPS.glob("*.yaml")):
        axes = OmegaConf.to_container(OmegaConf.load(file))
        steps = _steps(axes)
        sweeper = {"steps": steps} if len(steps) > 1 else {"params": steps[0]}
        node = {"hydra": {"mode": "MULTIRUN", "sweeper": sweeper}}
        store.store(group="sweep", name=file.stem, package="_global_", node=node, provider="kdexp")


def sweeps_of(words: list[str]) -> list[list[str]]:
    """Words with the axes of sweep=NAME in its place, once for each of its steps. Raises UsageError."""
    names = [word.partition("=")[2] for word in words if word.startswith("sweep=")]
    if not names:
        return [words]
    file = SWEEPS / f"{names[-1]}.yaml"
    if not file.exists():
        raise UsageError(hints.no_option("sweep", names[-1], [other.stem for other in SWEEPS.glob("*.yaml")]))
    rest = [word for word in words if not word.startswith("sweep=")]
    steps = _steps(OmegaConf.to_container(OmegaConf.load(file)))
    return [[*(f"{key}={value}" for key, value in params.items()), *rest] for params in steps]


def _steps(axes: dict) -> list[dict[str, str]]:
    """The sweeps of a file, one after the other; most are one."""
    steps = axes.pop("steps", [{}])
    return [_params(axes | step) for step in steps]


def _params(axes: dict) -> dict[str, str]:
    """The axes of a sweep file as Hydra's sweeper wants them."""
    if "pairs" in axes:
        axes = {key: value for key, value in axes.items() if key != "pairs"} | {"pair": pair_axis(axes["pairs"])}
    return {key: _axis(value) for key, value in axes.items()}


def _axis(value) -> str:
    """One or several values of a sweep file, as they would be typed."""
    return ",".join("null" if one is None else str(one) for one in (value if isinstance(value, list) else [value]))


def arguments(typed: list[str]) -> list[str]:
    """The typed words, made ready for Hydra: -m may come anywhere, and a path that exists needs no quotes, although
    ours contain = and commas."""
    multirun = [word for word in typed if word in ("-m", "--multirun")]
    words = [_quoted(*word.partition("=")) for word in typed if word not in multirun]
    several = any(word.startswith("pair=") and "," in word for word in words)
    return multirun[:1] + (words if several else without_pair(words))


def _quoted(key: str, equals: str, value: str) -> str:
    if key == "plugins" and equals:
        value = f"[{','.join(plugins.typed([f'plugins={value}']))}]"
    elif key == "pair":
        value = pair_axis(value.split(","))
    elif key in hints.KIND and value == "null":
        value = "'null'"  # the name of a file, so that Hydra says that there is none
    elif equals and re.search("[=,]", value) and "'" not in value and os.path.exists(value):
        value = f"'{value}'"
    return f"{key}{equals}{value}"


def _refused_by_hydra(error: Exception) -> bool:
    """Whether Hydra itself raised this: it rejects some words (teacher=null) with a plain ValueError."""
    raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
    return Path(hydra.__file__).parent in raised_in.parents


@contextlib.contextmanager
def explained(words: list[str] | None = None):
    """Raises UsageError with what to type instead for whatever Hydra rejects. words: what was typed, if not sys.argv."""
    try:
        yield
    except Exception as error:
        if isinstance(error, (HydraException, OmegaConfBaseException)) or _refused_by_hydra(error):
            raise UsageError(hints.explain(sys.argv[1:] if words is None else words, error)) from error
        raise


@contextlib.contextmanager
def messages():
    """A user's mistake ends in one message on stderr and exit code 1, a bug of ours in a traceback."""
    try:
        with explained():
            yield
    except UsageError as error:
        print(as_typed(str(error)), file=sys.stderr)
        sys.exit(1)
    except Stopped as stopped:  # which has been said
        sys.exit(stopped.exit_code)
    except KeyboardInterrupt:  # before a run has started, or the second one during a run
        print("\nstopped at once.   Go on: type the same command again.", file=sys.stderr)
        sys.exit(130)
