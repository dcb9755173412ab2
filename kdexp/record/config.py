"""config.yaml, read fast: thousands of runs repeat a few blocks, and each is parsed once."""

import functools
import re

import yaml

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def blocks(text: str) -> list[str]:
    """The file, cut before each of its top-level keys."""
    return re.split(r"\n(?=[A-Za-z_])", text)


@functools.cache
def block(text: str) -> dict:
    """One of `blocks`, parsed; not to be written to. Raises yaml.YAMLError."""
    return yaml.load(text, LOADER)


def parse(text: str) -> dict:
    """The whole file; its sections are not to be written to. Raises yaml.YAMLError and TypeError."""
    return {key: value for part in blocks(text) for key, value in {**block(part)}.items()}
