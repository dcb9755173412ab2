"""Locks a run for one process at a time, on one machine or on several that share a file system."""

import contextlib
import os
import socket
import time
from pathlib import Path

from filelock import SoftFileLease

SILENT = 600  # seconds without a heartbeat after which a process on another host is considered dead
HEARTBEAT = 60


def of(folder: Path) -> SoftFileLease:
    """The lease on a run's folder: a file beside it that its holder touches every minute. Another process may take it
    over if the holder was a process on this host and has died, or is on another host and silent for ten minutes."""
    path = folder.with_name(f".{folder.name}.lock")
    return SoftFileLease(path, lease_duration=SILENT, heartbeat_interval=HEARTBEAT)


def is_held(claim: SoftFileLease) -> bool:
    """Whether this process still holds the lease; another one takes it over if this one was suspended for too long."""
    for _ in range(3):  # a process checking whether a lease is dead moves its file away for a moment
        with contextlib.suppress(OSError):
            if claim.token and f"token={claim.token}\n" in Path(claim.lock_file).read_text():
                return True
        time.sleep(0.05)
    return False


def is_live(status: dict) -> bool:
    """Whether a run's status.json names another process that is working on it right now."""
    heartbeat, pid = status.get("heartbeat"), status.get("pid")
    if status.get("status") != "running" or not isinstance(heartbeat, float) or not isinstance(pid, int) or pid < 1:
        return False
    here = status.get("host") == socket.gethostname()
    return time.time() - heartbeat < SILENT and (pid != os.getpid() and is_alive(pid) if here else True)


def is_alive(pid: int) -> bool:
    """Whether a process on this host is running; a zombie is not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's, or a system without /proc
