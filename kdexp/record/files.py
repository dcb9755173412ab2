"""Files that are whole or not there."""

import contextlib
import errno
import io
import os
from pathlib import Path

from kdexp.config.schema import UsageError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def writing(path: Path, cure: str = "Choose another folder with paths.outputs=DIR"):
    """What cannot be written is said in one message, with its cure. Raises UsageError."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            cure = "Make room and type the same command again: what was saved before is whole, and the runs go on from there"
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
    import torch  # here, so that records can be listed without it

    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def npy_bytes(array) -> bytes:
    import numpy as np  # as torch

    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()
