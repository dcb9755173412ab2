"""Ctrl-C, SIGTERM and a cluster's warning: the current step finishes, all is saved, and the same command resumes."""

import os
import signal
import subprocess
import time
from contextlib import contextmanager

from kdexp import screen
from kdexp.errors import Stopped

# what a cluster sends ahead of time (sbatch --signal=USR1@120); Windows has neither
WARNINGS = [getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name)]


@contextmanager
def deferred_interrupt():
    """Yields a function that raises Stopped once a signal has arrived. A second Ctrl-C exits at once. When everything
    is saved, the signal is passed on to the handler that was there before (a scheduler's, which requeues)."""
    came = []

    def note(number, frame):
        came.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        screen.say("stopping after this step ...")

    def check():
        if came:
            raise Stopped("stopped after this step", 130)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM, *WARNINGS)}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came:
            if callable(before[number]) and number != signal.SIGINT:
                signal.raise_signal(number)
            elif number in WARNINGS:
                _requeue()


def _requeue() -> None:
    """Under SLURM, requeue this job."""
    job = os.environ.get("SLURM_JOB_ID")
    if job:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True)
        screen.say(f"SLURM job {job} " + (f"not requeued: {done.stderr.strip()}" if done.returncode else "requeued"))


def wait_for(record, interrupted) -> None:
    """Lock a run's folder as soon as the process that holds it lets go. `interrupted` can end the wait."""
    while not record.lock():
        interrupted()
        time.sleep(0.5)
