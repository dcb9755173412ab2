"""One group in a process that an engine has started."""

import torch
from hydra import initialize_config_dir

from kdexp import CONF, screen
from kdexp.config import cli
from kdexp.group import Group
from kdexp.interrupt import Stopped, deferred_interrupt
from kdexp.job import Job
from kdexp.teacher import Teachers


def train(configs: list[dict], title: str) -> bool:
    """Train these jobs side by side, but for those that another process is at: nobody waits here. Their records tell
    what became of them. Returns whether it came to its end, without a signal to stop."""
    to_the_end = True
    screen.plain()
    cli.register(configs[0]["plugins"])
    with initialize_config_dir(str(CONF), version_base="1.3"), deferred_interrupt() as interrupted:
        free = [job for job in map(Job, configs) if job.record.lock()]
        try:
            Group(free, Teachers(), interrupted, title).train()
        except Stopped as stopped:
            screen.say(str(stopped))
            to_the_end = False
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    return to_the_end
