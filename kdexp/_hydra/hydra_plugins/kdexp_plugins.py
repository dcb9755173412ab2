"""Hydra's entry point into kdexp for sweeps. Imported whenever Hydra starts, so nothing heavy at the top."""

from dataclasses import dataclass
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper, BasicSweeperConf
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.launcher import Launcher
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

from kdexp import screen
from kdexp.config import plugins
from kdexp.config.compose import Composer, ReadOnce, without_pair


@dataclass
class LauncherConf:
    _target_: str = "hydra_plugins.kdexp_plugins.KdexpLauncher"


@dataclass
class SweeperConf(BasicSweeperConf):
    _target_: str = "hydra_plugins.kdexp_plugins.KdexpSweeper"
    steps: Any = None  # a list of params


ConfigStore.instance().store(group="hydra/launcher", name="kdexp", node=LauncherConf, provider="kdexp")
ConfigStore.instance().store(group="hydra/sweeper", name="kdexp", node=SweeperConf, provider="kdexp")


class KdexpSearchPath(SearchPathPlugin):
    """Adds the yaml files of the packages in plugins= to ours."""

    def manipulate_search_path(self, search_path):
        for folder in plugins.folders[1:]:
            search_path.append(provider="kdexp", path=f"file://{folder}")


class KdexpLauncher(Launcher):
    """Composes all jobs before the first starts and hands them over together, so that kdexp can share their
    teachers."""

    def setup(self, *, hydra_context, task_function, config):
        loader = hydra_context.config_loader
        loader.repository = ReadOnce(loader.repository)

        def by_hydra(words):
            composed = loader.load_sweep_config(config, words)
            return OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"])

        sweeper = config.hydra.sweeper
        self.search = sweeper._target_ != SweeperConf._target_  # a search needs a value back from each job
        self.direction = str(sweeper.get("direction"))
        self.compose = Composer(by_hydra, is_group=lambda key: bool(loader.get_group_options(key)))

    def launch(self, job_overrides, initial_job_idx):
        configs = [self.compose(without_pair(list(words))) for words in job_overrides]
        if self.search:
            from kdexp.command.search import trials

            return trials(configs, self.direction)
        from kdexp.command.sweep import exit_unless_done, run_jobs

        exit_unless_done(run_jobs(configs))
        return []


class KdexpSweeper(BasicSweeper):
    """Hydra's basic sweeper without its output folder, and without composing every job a second time to validate
    it. steps: several sweeps, one after the other, instead of params; each is composed when the one before is done, so
    that it may use what that one has trained."""

    def __init__(self, max_batch_size, params=None, steps=None):
        super().__init__(max_batch_size, params)
        self.steps = steps or [self.params]

    def sweep(self, arguments):
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        for number, params in enumerate(self.steps, start=1):
            self.params = params
            if len(self.steps) > 1:
                screen.say(f"step {number} of {len(self.steps)}")
            overrides = parser.parse_overrides(self._parse_config() + list(arguments))
            for batch in self.split_arguments(overrides, self.max_batch_size):
                self.launcher.launch(batch, initial_job_idx=0)
