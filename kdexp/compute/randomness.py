"""Every draw of a run comes from a generator keyed by (seed, purpose): adding one never shifts another, and all
methods of one seed start from the same student and see the same batches."""

import contextlib
import hashlib

import torch


def key(*parts) -> int:
    """A 63-bit number from (seed, purpose, ...)."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


def generator(*parts) -> torch.Generator:
    """A CPU generator for (seed, purpose, ...): the same draws whatever the device."""
    return torch.Generator().manual_seed(key(*parts))


@contextlib.contextmanager
def seeded(*parts):
    """Inside, torch's global generator starts from (seed, purpose, ...); afterwards it is as before. For
    initialization."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(*parts))
        yield
