"""Ctrl-C, SIGTERM and a cluster's warning: the step in progress ends, all is saved, and the same command goes on."""

import os
import signal
import subprocess
import time
from contextlib import contextmanager

from kdexp import screen

WARNINGS = [
    getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name)
]  # sbatch --signal=USR1@120


class Stopped(Exception):
    """Work has ended before its end, and everything is saved."""

    def __init__(self, why: str, exit_code: int):
        super().__init__(f"{why}, saved.   Go on: type the same command again.")
        self.exit_code = exit_code


@contextmanager
def deferred_interrupt():
    """Yields a function that raises Stopped once a signal has come. A second Ctrl-C ends at once. After all is saved,
    whoever else waits for the signal (a scheduler that requeues) has it too."""
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
    """Under SLURM, have this job start again."""
    job = os.environ.get("SLURM_JOB_ID")
    if job:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True)
        screen.say(f"SLURM job {job} " + (f"not requeued: {done.stderr.strip()}" if done.returncode else "requeued"))


def wait_for(record, interrupted) -> None:
    """Take a run's folder once the process that is at it lets go. `interrupted` ends the waiting."""
    while not record.lock():
        interrupted()
        time.sleep(0.5)
