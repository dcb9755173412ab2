"""When Hydra rejects a command line: what was typed, what is allowed, what to type instead."""

import difflib
import functools
import re
from collections.abc import Callable

from hydra import compose
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from kdexp.config import plugins
from kdexp.config.compose import initialised, without_pair
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


def explain(arguments: list[str], error: Exception) -> str:
    """One message for a rejected command line; Hydra's own first line if there is nothing better to say."""
    with initialised():
        options = functools.cache(GlobalHydra.instance().config_loader().get_group_options)
        chosen = [
            a
            for a in arguments
            if a.partition("=")[0] in KIND and set(a.partition("=")[2].split(",")) <= set(options(a.partition("=")[0]))
        ]
        keys = _keys([re.sub(r",.*", "", a) for a in chosen if not a.startswith("sweep=")])
        messages = [message for argument in _without_pairs(arguments) if (message := _about(argument, options, keys))]
    if messages:
        return "\n".join(messages)
    first, cause = first_line(error), error.__cause__ and first_line(error.__cause__)
    return f"{first.removeprefix('Error merging override ')}: {cause}" if cause else first


def _without_pairs(arguments: list[str]) -> list[str]:
    """`pair=a-b,c-d` -> teacher=a student=b teacher=c student=d."""
    pairs = [pair for argument in arguments if argument.startswith("pair=") for pair in argument[5:].split(",")]
    rest = [argument for argument in arguments if not argument.startswith("pair=")]
    return rest + [word for pair in pairs for word in without_pair([f"pair={pair}"])]


def _keys(choices: list[str]) -> dict:
    """Every key of the configuration that these choices give -> its value."""
    return flatten(OmegaConf.to_container(compose("config", choices)))


def _closest(word: str, words: list[str]) -> list[str]:
    """The most similar word, if any: by all its letters, else by the first three."""
    return (
        difflib.get_close_matches(word, words, 1)
        or [other for other in words if len(word) > 2 and other.startswith(word[:3])][:1]
    )


def _about(argument: str, options: Callable[[str], list[str]], keys: dict) -> str | None:
    match = re.match(r"^([+~]{0,2})([\w./@]+)=(.*)$", argument)
    if not match:
        return None if argument.startswith("-") else f"{argument}: not of the form key=value"
    _, key, value = match.groups()
    if key in KIND:
        missing = [v for v in value.split(",") if re.fullmatch(r"[\w.-]+", v) and v not in options(key)]
        return "\n".join(_no_option(key, v, options(key)) for v in missing) or None
    sections = {k.rpartition(".")[0] for k in keys}
    if key in keys or key in sections or key.startswith("hydra"):
        return None
    section, _, leaf = key.rpartition(".")
    if section in sections and section:
        names = [k.rpartition(".")[2] for k in keys if k.rpartition(".")[0] == section]
        names = [n for n in names if n not in ("_target_", "name", "label", "note", "control")]
        near = _closest(leaf, names)
        meant = _meant(f"{section}.{near[0]}={value}" if near else "")
        owner = keys.get(f"{section}.name", section)
        return f"{argument}: {owner} has no parameter '{leaf}'. {meant}It has: {', '.join(names)}"
    near = [k for k in keys if k.endswith(f".{key}")][:1] or _closest(key, [*KIND, *keys])
    meant = _meant(f"{near[0]}={value}" if near else "")
    return f"{argument}: there is no option '{key}'. {meant}python run.py --cfg job shows all options"


def _meant(correction: str) -> str:
    return f"Did you mean {correction}? " if correction else ""


def _resnet(depth: int, factor: str | None) -> tuple[str, str]:
    """The name of a ResNet, and what to type for one that has no file of its own."""
    times = int(factor or 1)
    widths = f" model.ROLE.widths=[32,{16 * times},{32 * times},{64 * times}]" if factor else ""
    return f"resnet{depth}" + (f"x{factor}" if factor else ""), f"resnet model.ROLE.depth={depth}{widths}"


def _wrn(depth: int, factor: str | None) -> tuple[str, str]:
    """The same for a WRN."""
    factor = factor or "4"
    return f"wrn{depth}_{factor}", f"wrn model.ROLE.depth={depth} model.ROLE.widen_factor={factor}"


# prefix of a name -> (depth modulo 6, the rule in words, how to spell it)
FAMILIES = dict.fromkeys(("wrn", "wideresnet", "wide_resnet"), (4, "WRN depths are 6n+4", _wrn))
FAMILIES["resnet"] = (2, "ResNet depths are 6n+2", _resnet)


def _near(word: str, names: list[str]) -> list[str]:
    """The names that start with the word, if there are only a few (shufflenet); else the most similar one, if any."""
    begun = [name for name in names if len(word) > 2 and name.startswith(word)]
    return begun if 0 < len(begun) <= 3 else _closest(word, names)


def _no_option(key: str, value: str, known: list[str]) -> str:
    known = sorted(known, key=plugins.natural)
    lowered = {name.lower(): name for name in known}
    known = [name for name in known if name == name.lower() or name.lower() not in known]  # KD is kd
    near = _near(value.lower().replace("-", "_"), list(lowered))
    correction, more = " or ".join(f"{key}={lowered[name]}" for name in near), f"There are: {', '.join(known)}"
    typed = re.fullmatch(rf"({'|'.join(FAMILIES)})[_-]?(\d+)(?:[_x-](\d+))?", value.lower())
    if KIND[key] == "network" and typed:
        correction, more = _network(key, typed[1], typed[2], typed[3], lowered, correction)
    return f"{key}={value}: no such {KIND[key]}. {_meant(correction)}{more}"


def network_words(role: str, name: str) -> str:
    """What to type for a network of this name: student=resnet20, student=resnet model.student.depth=26."""
    if mlp := re.fullmatch(r"mlp(\d+(?:_\d+)*)(?:drop([\d.]+)_([\d.]+))?(?:norm([\d.]+))?", name):
        values = dict(zip(("hidden", "input_dropout", "dropout", "max_norm"), mlp.groups()))
        values["hidden"] = f"[{values['hidden'].replace('_', ',')}]"
        return " ".join([f"{role}=mlp", *(f"model.{role}.{key}={value}" for key, value in values.items() if value)])
    typed = re.fullmatch(r"(resnet|wrn)(\d+)(?:[_x](\d+)|w([\d_]+))?(a?)", name)
    if not typed or name in {file.stem for file in plugins.options("model")}:
        return f"{role}={name}"
    words = FAMILIES[typed[1]][2](int(typed[2]), typed[3])[1] + " model.ROLE.shortcut=A" * bool(typed[5])
    words += f" model.ROLE.widths=[{typed[4].replace('_', ',')}]" if typed[4] else ""
    return f"{role}={words.replace('ROLE', role)}"


def _network(
    key: str, family: str, depth: str, factor: str | None, known: dict[str, str], near: str
) -> tuple[str, str]:
    """(what was meant, the rule): resnet26 and wrn22_3 exist without a file of their own, resnet31 does not."""
    remainder, rule, spell = FAMILIES[family]
    role, layers = key.rpartition("/")[2], int(depth)
    name, words = spell(layers, factor)
    if name in known:
        return f"{key}={name}", f"There are: {', '.join(known.values())}"
    if layers % 6 == remainder and layers > remainder:
        return f"{key}={words.replace('ROLE', role)}", f"{rule}, and any of them can be typed like this"
    fitting = max(6 * round((layers - remainder) / 6) + remainder, 6 + remainder)
    return near, f"{rule}: for instance {key}={spell(fitting, factor)[1].replace('ROLE', role)}"
