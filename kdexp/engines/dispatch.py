"""Hands groups to workers, each once its teacher is there and no other process is training it."""

import contextlib
import math
import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import torch

from kdexp import screen
from kdexp.errors import Stopped
from kdexp.experiment.data import load_data
from kdexp.jobs.groups import missing_teachers, title
from kdexp.jobs.job import Job
from kdexp.storage import lease
from kdexp.training.fits import check_batches
from kdexp.training.recorded_fit import note_failure

POLL_SECONDS = 0.5


class WorkerLost(Exception):
    """A worker was killed from outside; the message is meant for the user."""


def check_data(jobs: list[Job]) -> None:
    """Download and check each data set of the jobs once, and their batches. Raises UsageError."""
    images = {}
    for job in jobs:
        if job.data_key not in images:
            images[job.data_key] = len(load_data(job.config, torch.device("cpu")).train.labels)
        check_batches(job.config, images[job.data_key])


class Dispatch:
    """submit(configs, title) -> a handle with done() and result(), which raises what the worker raised.

    threads: per worker, for jobs with threads=auto. cancel(handle): don't start this group, or tell it to stop.
    at_a_time: the most groups to hand over at once, for engines where a crash also loses the groups still waiting.
    handed_over: the word on screen for a group that was handed over.
    """

    def __init__(
        self,
        submit: Callable,
        threads: int,
        cancel: Callable,
        at_a_time: float = math.inf,
        handed_over: str = "started",
    ):
        self.submit, self.threads, self.cancel, self.at_a_time = submit, threads, cancel, at_a_time
        self.handed_over = handed_over
        self.running: dict = {}  # handle -> (jobs, title)
        self.told: set[Job] = set()
        self.lost: set[str] = set()  # folders of failed runs, which cannot be teachers

    def run(self, groups: list[list[Job]], interrupted) -> None:
        """Train all groups. Missing teachers become groups of their own, ahead of their students. Raises Stopped."""
        waiting = [([one], f"teacher {one.pair}") for one in missing_teachers([job for jobs in groups for job in jobs])]
        waiting += [(members, title(members, number, len(groups))) for number, members in enumerate(groups, start=1)]
        try:
            while waiting or self.running:
                waiting = [unit for jobs, name in waiting if (unit := self._start(jobs, name, waiting)) is not None]
                waiting += [unit for handle in [*self.running] if handle.done() and (unit := self._end(handle))]
                interrupted()
                time.sleep(POLL_SECONDS)
        except Stopped:
            self._stop()
            raise

    def _start(self, jobs: list[Job], name: str, waiting: list) -> tuple | None:
        """Hand a group to a worker if it can start; returns the part of it that still has to wait."""
        under_way = {str(job.record.folder) for other, _ in [*waiting, *self.running.values()] for job in other}
        if any(under_way.intersection(job.teacher_keys) for job in jobs) or len(self.running) >= self.at_a_time:
            return jobs, name
        for job in [job for job in jobs if self.lost.intersection(job.teacher_keys)]:
            jobs = [other for other in jobs if other is not job]
            _without_teacher(job, *self.lost.intersection(job.teacher_keys))
        free = [job for job in jobs if _is_free(job)]
        for job in jobs:
            if job not in free and job not in self.told:
                screen.say(f"waiting for {job.title}: {job.holder} is training it   {job.record.folder}")
                self.told.add(job)
        for job in free:
            job.inspect()
        if todo := [job for job in free if job.to_do]:
            threads = [self.threads if job.config["threads"] == "auto" else job.config["threads"] for job in todo]
            configs = [job.config | {"threads": count} for job, count in zip(todo, threads)]
            self.running[self.submit(configs, name)] = (todo, name)
            screen.say(f"{self.handed_over} {name}   {' '.join(job.name for job in todo)}")
        busy = [job for job in jobs if job not in free]
        return (busy, name) if busy else None

    def _end(self, handle) -> tuple | None:
        """Record how a group ended; returns the part that another process took over in the meantime, to wait for."""
        (jobs, name), taken = self.running.pop(handle), []
        try:
            handle.result()
        except WorkerLost as error:
            screen.say(f"{name}: {error}")
            for job in jobs:  # some may have finished before that
                job.inspect()
                job.trained = job.done
        except Exception as error:  # whatever can kill a worker
            last = "".join(str(error).strip().splitlines()[-1:])
            screen.say(f"{name}: its worker crashed ({type(error).__name__}: {last})")
        else:
            for job in jobs:
                job.inspect()
                job.trained = bool(job.record.result) and not job.damaged
            taken = [job for job in jobs if not job.trained and not _is_free(job)]
        jobs = [job for job in jobs if job not in taken]
        if jobs:
            screen.say(f"ended   {name}   {sum(job.trained for job in jobs)} of {len(jobs)} done")
        self.lost |= {str(job.record.folder) for job in jobs if not job.trained}
        if any(job.config["on_error"] == "stop" and not job.trained for job in jobs):
            raise Stopped("stopped at the first failure (on_error=stop); all other runs stopped", 1)
        return (taken, name) if taken else None

    def _stop(self) -> None:
        """Tell the workers to save and exit, and wait until they have."""
        for handle, (jobs, _) in self.running.items():
            self.cancel(handle)
            for status in (job.record.status for job in jobs):
                if lease.is_live(status) and status["host"] == socket.gethostname():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(status["pid"], signal.SIGTERM)
        while not all(handle.done() for handle in self.running):
            time.sleep(POLL_SECONDS)


def _without_teacher(job: Job, *lost: str) -> None:
    """Record that a job has no teacher to learn from. lost: the folders of those that failed."""
    if job.record.lock():
        try:
            job.begin()
            line = f"its teacher could not be trained   {Path(min(lost), 'run.log')}"
            note_failure(job, "failed", line, "")
        finally:
            job.record.unlock()


def _is_free(job: Job) -> bool:
    if not job.record.lock():
        return False
    job.record.unlock()
    return True
