"""Writes files atomically: each one is either complete or absent."""

import contextlib
import errno
import io
import os
from pathlib import Path

from kdexp.errors import UsageError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def writing(path: Path, cure: str = "Choose another folder with paths.outputs=DIR"):
    """Turn a failed write into one message that says what to do about it. Raises UsageError."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            cure = "Make room and type the same command again: everything saved so far is intact, and the runs resume from there"
        raise UsageError(f"{path} cannot be written: {error.strerror}. {cure}") from None


def write_atomically(path: Path, content: bytes) -> None:
    """Readers see the old file or the new one, whatever happens in between. Raises UsageError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with writing(path):
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def torch_bytes(value) -> bytes:
    import torch  # imported here, so that records can be listed without it

    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def npy_bytes(array) -> bytes:
    import numpy as np  # imported here, like torch

    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()
