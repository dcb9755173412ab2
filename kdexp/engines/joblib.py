"""engine=joblib: processes on this machine, each with its own GPU if there are any."""

import functools
import os
import tempfile
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from kdexp import screen
from kdexp.engines import worker
from kdexp.engines.dispatch import Dispatch, check_data
from kdexp.errors import needed
from kdexp.jobs.job import Job

held: list = []  # the lock on this process's GPU, kept as long as the process lives


class Joblib:
    """workers: processes at a time; "auto" is one per GPU, or without GPUs one per two cores. Raises ValueError."""

    def __init__(self, workers: int | str = "auto"):
        if workers != "auto" and not (type(workers) is int and workers > 0):
            raise ValueError(f"workers={workers}: must be auto or a number greater than 0")
        self.loky = needed("joblib").externals.loky
        self.gpus = _gpus()
        self.workers = len(self.gpus) or max(1, os.cpu_count() // 2) if workers == "auto" else int(workers)
        if 0 < len(self.gpus) < self.workers:
            raise ValueError(f"workers={workers}: each worker needs its own GPU, and this machine has {len(self.gpus)}")

    def check(self, jobs: list[Job]) -> list[str]:
        check_data(jobs)
        gpus = f" with {screen.counted(len(self.gpus), 'GPU')}" * bool(self.gpus)
        return [f"joblib, {screen.counted(self.workers, 'worker')}{gpus}"]

    def run(self, groups: list[list[Job]], interrupted) -> None:
        with tempfile.TemporaryDirectory() as slots:
            pool = functools.partial(
                self.loky.get_reusable_executor, self.workers, initializer=take_slot, initargs=(slots, self.gpus)
            )
            # a killed worker breaks its pool; pool() then makes a new one
            submit = lambda *unit: pool().submit(worker.train, *unit)
            threads = max(1, os.cpu_count() // self.workers)
            try:
                cancel = lambda future: future.cancel()
                Dispatch(submit, threads, cancel, at_a_time=self.workers).run(groups, interrupted)
            finally:
                pool().shutdown()


def _gpus() -> list[str]:
    """The GPUs that this process sees, by their names in CUDA_VISIBLE_DEVICES."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    return visible.split(",")[:count] if visible else [str(index) for index in range(count)]


def take_slot(folder: str, gpus: list[str]) -> None:
    """Reserve the first GPU whose lock is free, before this process uses any. A process that dies frees its lock."""
    for gpu in gpus:
        lock = FileLock(Path(folder, f"{gpu.replace('/', '-')}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        held.append(lock)
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        return
    if gpus:
        raise RuntimeError(f"no free GPU among {', '.join(gpus)}")
