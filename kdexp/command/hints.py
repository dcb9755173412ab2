"""When Hydra rejects a command line: what was typed, what is allowed, what to type instead."""

import difflib
import re

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from kdexp.config import plugins
from kdexp.config.network_names import network_words
from kdexp.config.schema import flatten
from kdexp.errors import first_line

KIND = {
    "teacher": "network",
    "student": "network",
    "model/teacher": "network",
    "model/student": "network",
    "distill": "method",
    "dataset": "data set",
    "optimizer": "optimizer",
    "recipe": "recipe",
    "augment": "augmentation",
    "sweep": "sweep",
    "experiment": "experiment",
    "engine": "engine",
    "logger": "logger",
}
FAMILIES = {  # depth modulo 6, and how any depth is typed
    "resnet": (2, "ResNet depths are 6n+2, and any of them can be typed: {0}=resnet model.{1}.depth=26"),
    "wrn": (4, "WRN depths are 6n+4, and any of them can be typed: {0}=wrn model.{1}.depth=22"),
}


def explain(arguments: list[str], error: Exception) -> str:
    """A message for a rejected command line; Hydra's own first line if there is nothing better to say."""
    cause = error.__cause__
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
        if group in KIND and name:
            return no_option(group, name, list(error.options or []))
    if isinstance(error, OverrideParseException) and "=" not in error.override:
        return f"{error.override}: not of the form key=value"
    if isinstance(cause, (ConfigAttributeError, ConfigKeyError)) and not str(cause.full_key).startswith("hydra"):
        typed = (word for word in arguments if re.match(rf"{re.escape(cause.full_key)}[.=]", word))
        return _no_key(next(typed, cause.full_key), cause)
    first = first_line(error).removeprefix("Error merging override ")
    if several := re.match("Ambiguous value for argument '(.*)'", first):
        return f"{several[1]}: for several values, add -m: python run.py -m {several[1]}"
    return f"{first}: {first_line(cause)}" if cause else first


def _closest(word: str, words: list[str]) -> list[str]:
    """The most similar word, if any: by all its letters, else by the first three."""
    begun = [other for other in words if len(word) > 2 and other.startswith(word[:3])]
    return difflib.get_close_matches(word, words, 1) or begun[:1]


def _meant(correction: str) -> str:
    return f"Did you mean {correction}? " if correction else ""


def _no_key(word: str, error: OmegaConfBaseException) -> str:
    """error: OmegaConf's, about the first part of the word's key that is not there."""
    key, _, value = word.partition("=")
    parent, (section, _, leaf) = error.parent_node, error.full_key.rpartition(".")
    if section:
        names = [str(name) for name in parent if name not in ("_target_", "name", "label", "note", "control")]
        meant = "".join(f"{section}.{name}{word[len(error.full_key) :]}" for name in _closest(leaf, names))
        owner = parent.name if "name" in parent else section
        return f"{word}: {owner} has no parameter '{leaf}'. {_meant(meant)}It has: {', '.join(names)}"
    keys = [name for name in flatten(OmegaConf.to_container(parent)) if not name.startswith("hydra.")]
    near = [name for name in keys if name.endswith(f".{key}")][:1] or _closest(key, [*KIND, *keys])
    meant = "".join(f"{name}={value}" for name in near)
    return f"{word}: there is no option '{key}'. {_meant(meant)}python run.py --cfg job shows all options"


def no_option(group: str, name: str, options: list[str]) -> str:
    """The message for a choice that is not among the options of its group."""
    lowered = {option.lower(): option for option in sorted(options)}  # KD is kd
    there = f"There are: {', '.join(sorted(lowered.values(), key=plugins.natural))}"
    word = re.sub("^wide_?resnet", "wrn", name.lower().replace("-", "_"))
    begun = [option for option in lowered if len(word) > 2 and option.startswith(word)]
    near = begun if 0 < len(begun) <= 3 else _closest(word, list(lowered))
    meant = " or ".join(f"{group}={lowered[option]}" for option in near)
    family = re.fullmatch(r"(resnet|wrn)_?(\d+)(.*)", word)
    if family and KIND[group] == "network":
        role, network, (remainder, rule) = group.rpartition("/")[2], "".join(family.groups()), FAMILIES[family[1]]
        words = network_words(role, network).replace(role, group, 1)
        if network in lowered:
            meant = words
        else:  # resnet26 and wrn22_3 exist without a file of their own, resnet31 does not
            meant, there = words if int(family[2]) % 6 == remainder else meant, rule.format(group, role)
    return f"{group}={name}: no such {KIND[group]}. {_meant(meant)}{there}"
