"""The names of networks of any size, and what to type for one of these names."""

import re

from kdexp.config import plugins

# family -> its names; the groups are its parameters, and `factor` multiplies a ResNet's widths
NAMES = {
    "mlp": r"mlp(?P<hidden>[\d_]+)(drop(?P<input_dropout>[\d.]+)_(?P<dropout>[\d.]+))?(norm(?P<max_norm>[\d.]+))?",
    "resnet": r"resnet(?P<depth>\d+)(x(?P<factor>\d+)|w(?P<widths>[\d_]+))?(?P<shortcut>a?)",
    "wrn": r"wrn(?P<depth>\d+)(_(?P<widen_factor>\d+))?",
}


def resnet_name(depth: int, widths: list[int], shortcut: str) -> str:
    """resnet32; resnet8x4 with four times the usual widths of the stages and stem 32; resnet32a with shortcuts A.
    Other widths are spelled out, as are the usual ones at depth 50: resnet50 means the bottleneck network."""
    factor, own = widths[-1] // 64 if widths else 0, "a" if shortcut == "A" else ""
    if list(widths) == [16, 16, 32, 64] and depth != 50:
        return f"resnet{depth}{own}"
    if list(widths) == [32, 16 * factor, 32 * factor, 64 * factor]:
        return f"resnet{depth}x{factor}{own}"
    return f"resnet{depth}w" + "_".join(str(width) for width in widths) + own


def mlp_name(hidden: list[int], input_dropout: float, dropout: float, max_norm: float) -> str:
    """mlp800_800; mlp1200_1200drop0.2_0.5norm3.873 with dropout of inputs and hidden units, and a limit on norms."""
    drop = f"drop{input_dropout:g}_{dropout:g}" if input_dropout or dropout else ""
    return f"mlp{'_'.join(str(width) for width in hidden)}{drop}" + (f"norm{max_norm:g}" if max_norm else "")


def network_words(role: str, name: str) -> str:
    """What to type for a network of this name: student=resnet20, student=resnet model.student.depth=26."""
    files = {file.stem for file in plugins.options("model")}
    family = next((family for family, names in NAMES.items() if re.fullmatch(names, name)), None)
    if family is None or (name in files and family != "mlp"):  # mlp1200 is also the name of a file with dropout
        return f"{role}={name}"
    values = re.fullmatch(NAMES[family], name).groupdict()
    if factor := int(values.pop("factor", None) or 0):
        values["widths"] = f"32_{16 * factor}_{32 * factor}_{64 * factor}"
    words = [f"{role}={family}"]
    for key, value in values.items():
        if value:
            listed = f"[{value.replace('_', ',')}]" if key in ("hidden", "widths") else value.upper()
            words.append(f"model.{role}.{key}={listed}")
    return " ".join(words)
