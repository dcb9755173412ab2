"""Reads config.yaml fast: thousands of runs share a few blocks, and each distinct block is parsed once."""

import functools
import re

import yaml

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def blocks(text: str) -> list[str]:
    """The file, split before each top-level key."""
    return re.split(r"\n(?=[A-Za-z_])", text)


@functools.cache
def block(text: str) -> dict:
    """One of `blocks`, parsed. It is cached, so don't modify it. Raises yaml.YAMLError."""
    return yaml.load(text, LOADER)


def parse(text: str) -> dict:
    """The whole file. Its sections are cached, so don't modify them. Raises yaml.YAMLError and TypeError."""
    return {key: value for part in blocks(text) for key, value in {**block(part)}.items()}
