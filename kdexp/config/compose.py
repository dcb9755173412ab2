"""Composes the configurations of a sweep. Hydra reads the files again for each job, which takes about 0.2 s; here each
choice of files is composed once, and the values are merged into a copy. Unpickling makes a copy of a configuration five times
faster than deepcopy."""

import contextlib
import functools
import pickle
from collections.abc import Callable
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.config_repository import ConfigRepository
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from kdexp import CONF
from kdexp.errors import UsageError


@contextlib.contextmanager
def initialised():
    """Inside, Hydra can compose from conf/. Does nothing if it already can."""
    ready = GlobalHydra.instance().is_initialized()
    with contextlib.nullcontext() if ready else initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        yield


class ReadOnce(ConfigRepository):
    """A cache of Hydra's configuration files for all jobs of a sweep; Hydra reads each file again for every job."""

    def __init__(self, hydras: ConfigRepository):
        self.sources = hydras.sources
        read = super().load_config
        self._read = functools.cache(lambda path: pickle.dumps(read(path)))

    def load_config(self, config_path):
        return pickle.loads(self._read(config_path))  # a copy: Hydra merges other files into what it gets

    def __deepcopy__(self, memo):
        return self  # Hydra copies its repository for every job, and would copy the cache with it


class Composer:
    """Words such as `distill=sp` and `seed=2` -> one configuration.

    by_hydra: does the same, slowly. is_group: whether a key selects a file.
    """

    def __init__(self, by_hydra: Callable[[list[str]], DictConfig], is_group: Callable[[str], bool]):
        self.by_hydra, self.is_group = by_hydra, functools.cache(is_group)
        self.first: tuple[str, ...] | None = None  # the choices of the first job, except for its method
        self.chosen, self.changed = functools.cache(self._chosen), functools.cache(self._changed)

    def __call__(self, words: list[str]) -> DictConfig:
        overrides = OverridesParser.create().parse_overrides(words)
        values = [one for one in overrides if self._is_value(one)]
        choices = [one.input_line for one in overrides if one not in values]
        method = tuple(word for word in choices if word.startswith("distill="))
        config = pickle.loads(self.chosen(tuple(word for word in choices if word not in method), method))
        try:
            for one in values:
                OmegaConf.update(config, one.key_or_group, one.value(), merge=True)
        except OmegaConfBaseException:
            return self.by_hydra(words)  # rejects them with Hydra's own message
        return config

    def _chosen(self, rest: tuple[str, ...], method: tuple[str, ...]) -> bytes:
        """The pickled configuration of these choices of files. Hydra composes every method with the first pair, and every
        other pair once: a method's file usually changes the method alone, and a pair does not change the method."""
        self.first = rest if self.first is None else self.first
        if method and rest != self.first:
            if self.changed(self.first, method) <= {"distill"} and "distill" not in self.changed(rest, ()):
                config = pickle.loads(self.chosen(rest, ()))
                config.distill = pickle.loads(self.chosen(self.first, method)).distill
                return pickle.dumps(config)
        return pickle.dumps(self.by_hydra([*rest, *method]))

    def _changed(self, rest: tuple[str, ...], method: tuple[str, ...]) -> set[str]:
        """The top-level keys whose values are not those of the first job's choices without a method."""
        chosen = self.chosen(self.first, ()), self.chosen(rest, method)
        ours, theirs = (OmegaConf.to_container(pickle.loads(one)) for one in chosen)
        return {str(key) for key in {*ours, *theirs} if ours.get(key, ...) != theirs.get(key, ...)}

    def _is_value(self, override: Override) -> bool:
        """Whether it is a plain `key=value`. What adds, deletes, selects a file or configures Hydra is left to
        Hydra."""
        plain = not (override.is_add() or override.is_force_add() or override.is_delete())
        key = override.key_or_group
        return plain and override.package is None and not key.startswith("hydra") and not self.is_group(key)


def composer() -> Composer:
    """For code outside of Hydra's own application, inside `initialised`."""
    loader: Any = GlobalHydra.instance().config_loader()  # its interface does not tell of the repository
    loader.repository = ReadOnce(loader.repository)
    return Composer(lambda words: compose("config", words), lambda key: bool(loader.get_group_options(key)))


def without_pair(words: list[str]) -> list[str]:
    """`pair=wrn40_2-wrn16_2` -> `teacher=wrn40_2`, `student=wrn16_2`, and the words that follow it, as in
    `pair='vgg13-mobilenetv2 optimizer.lr=0.01'`, unless their keys are also typed separately. Raises UsageError."""
    typed = [word for word in words if word.startswith("pair=")]
    if not typed:
        return words
    keys = {word.partition("=")[0] for word in words}
    if both := sorted(keys & {"teacher", "student", "model/teacher", "model/student"}):
        raise UsageError(f"pair= names teacher and student together: leave out {both[0]}= or pair=")
    names, *own = typed[-1].removeprefix("pair=").strip("'\"").split() or [""]
    teacher, dash, student = names.partition("-")
    if not (teacher and dash and student) or not all("=" in word for word in own):
        raise UsageError(
            f"{typed[-1]}: a pair is TEACHER-STUDENT, for instance pair=wrn40_2-wrn16_2, or 'TEACHER-STUDENT KEY=VALUE'"
        )
    own = [word for word in own if word.partition("=")[0] not in keys]
    return [word for word in words if word not in typed] + [f"teacher={teacher}", f"student={student}", *own]


def pair_axis(pairs: list[str]) -> str:
    """Pairs as one axis for Hydra, which accepts words after a pair only inside quotes."""
    return ",".join(f"'{pair}'" if " " in pair else pair for pair in (pair.strip("'\" ") for pair in pairs))
