"""kdexp.run: `python run.py -m ...` from Python."""

import json

import pandas as pd
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from kdexp import report
from kdexp.command import cli
from kdexp.command.sweep import run_jobs
from kdexp.config import plugins
from kdexp.config.compose import composer, initialised, without_pair
from kdexp.errors import UsageError
from kdexp.jobs.job import Job


def run(words: list[str], settings: dict) -> pd.DataFrame:
    """See kdexp.run."""
    typed = [*words, *(f"{key}={as_typed(value)}" for key, value in settings.items())]
    if hydras := [word for word in typed if word.startswith(("-", "hydra"))]:
        raise UsageError(f"{hydras[0]}: only for the command line")
    cli.register(plugins.typed(typed))
    jobs: list[Job] = []
    with initialised(), cli.explained(typed):
        for step in cli.sweeps_of(typed):
            jobs += run_jobs(composed(cli.arguments(step)))
    return report.load(*dict.fromkeys(job.record.folder for job in jobs))


def as_typed(value) -> str:
    """A tuple is several values, a list one: (1, 2) is 1,2 and [1, 2] is [1,2]."""
    if isinstance(value, (tuple, range)):
        return ",".join(map(as_typed, value))
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def composed(words: list[str]) -> list[DictConfig]:
    """A configuration for each combination of several values. Hydra must be initialised."""
    loader = GlobalHydra.instance().config_loader()
    overrides = OverridesParser.create(config_loader=loader).parse_overrides(words)
    (combinations,) = BasicSweeper.split_arguments(overrides, None)
    compose = composer()
    return [compose(without_pair(list(combination))) for combination in combinations]
