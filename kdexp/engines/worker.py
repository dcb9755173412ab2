"""Trains one group in a process started by an engine."""

import torch

from kdexp import screen
from kdexp.compute.interrupt import deferred_interrupt
from kdexp.config import plugins
from kdexp.errors import Stopped
from kdexp.jobs.job import Job
from kdexp.teachers import Teachers
from kdexp.training.group import Group


def train(configs: list[dict], title: str) -> bool:
    """Train these jobs side by side, skipping those that another process is training: a worker never waits. The
    records tell how each job ended. Returns False if a signal stopped the training early."""
    finished = True
    screen.plain()
    plugins.use(configs[0]["plugins"])
    with deferred_interrupt() as interrupted:
        free = [job for job in map(Job, configs) if job.record.lock()]
        try:
            Group(free, Teachers(), interrupted, title).train()
        except Stopped as stopped:
            screen.say(str(stopped))
            finished = False
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    return finished
