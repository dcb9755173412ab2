"""Who works on a run: one process at a time, on one machine or on several that share a file system."""

import contextlib
import os
import socket
import time
from pathlib import Path

from filelock import SoftFileLease

SILENT = 600  # seconds after which a process of another host that gives no sign of life is taken for dead
HEARTBEAT = 60


def of(folder: Path) -> SoftFileLease:
    """The lease of a run's folder: a file beside it that its holder touches every minute. That of a dead process of
    this host, and that of another host's which is not touched for ten minutes, is taken over."""
    path = folder.with_name(f".{folder.name}.lock")
    return SoftFileLease(path, lease_duration=SILENT, heartbeat_interval=HEARTBEAT)


def is_held(claim: SoftFileLease) -> bool:
    """Whether this process's claim still stands: another one takes it over when this one has stood still for too long."""
    for _ in range(3):  # who looks whether a claim is dead moves its file away for a moment
        with contextlib.suppress(OSError):
            if claim.token and f"token={claim.token}\n" in Path(claim.lock_file).read_text():
                return True
        time.sleep(0.05)
    return False


def is_live(status: dict) -> bool:
    """Whether the state of a run names another process that is at work on it now."""
    heartbeat, pid = status.get("heartbeat"), status.get("pid")
    if status.get("status") != "running" or not isinstance(heartbeat, float) or not isinstance(pid, int) or pid < 1:
        return False
    here = status.get("host") == socket.gethostname()
    return time.time() - heartbeat < SILENT and (pid != os.getpid() and is_alive(pid) if here else True)


def is_alive(pid: int) -> bool:
    """Whether a process of this host runs; one that has ended and was not yet waited for does not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's, or a system without /proc
