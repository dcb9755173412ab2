import multiprocessing
import os
import resource
import runpy
import sys
import time

if "PYTEST_XDIST_WORKER_COUNT" in os.environ:  # each worker gets its share of the cores
    os.environ["OMP_NUM_THREADS"] = str(max(1, os.cpu_count() // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])))

import pytest
from hydra import initialize_config_dir
from hydra.core.config_store import ConfigStore

from kdexp import CONF, ROOT
from kdexp.command import cli
from kdexp.config import compose, plugins, resolve

# Hydra copies the whole store for every file it looks for, 0.05 s each time; here it copies to itself, as it never changes
ConfigStore.__deepcopy__ = lambda store, memo: store

PACKAGES, DISTILL, METHODS, NETWORKS = [], [], [], []  # filled by pytest_configure, before any test is collected
TINY = (
    "dataset=digits",
    "dataset.limit=64",
    "dataset.limit_test=50",
    "recipe=quick",
    "epochs=2",
    "batch_size=16",
    "teacher=wrn16_1",
    "student=resnet8",
)


def pytest_addoption(parser):
    parser.addoption("--plugins", dest="packages", default="", help="packages of yours, tested as ours are: a,b")


def pytest_configure(config):
    """What the parametrized tests iterate over: every file in conf/ and in the packages' conf/."""
    PACKAGES[:] = plugins.typed([f"plugins={config.getoption('packages')}"])
    cli.register(PACKAGES)
    DISTILL[:] = [file.stem for file in plugins.options("distill")]
    METHODS[:] = [name for name in DISTILL if name != "none"]
    NETWORKS[:] = [file.stem for file in plugins.options("model")]
    if getattr(config.option, "dist", "no") == "load":  # -n 2: a file's last test may count what its others have read
        config.option.dist = "loadfile"


@pytest.fixture(scope="session")
def hydra():
    """`hydra(*overrides)` composes and resolves a configuration as run.py does for a job of a sweep: Hydra takes 0.2 s, so it
    composes each choice of files once."""
    cli.register(PACKAGES)
    packages = f"plugins=[{','.join(PACKAGES)}]"
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        composer = compose.composer()
        yield lambda *overrides: resolve.plain(composer([packages, *overrides]))


def short(*overrides):
    """The override that shortens pretraining, if the chosen method has any."""
    name = next((word.removeprefix("distill=") for word in overrides if word.startswith("distill=")), "kd")
    (file,) = (file for file in plugins.options("distill") if file.stem == name)
    return ["distill.pretrain_epochs=6"] if "pretrain_epochs:" in file.read_text() else []


@pytest.fixture
def tiny(hydra, tmp_path):
    """The same on 64 digits, with records below tmp_path."""
    return lambda *overrides: hydra(*TINY, f"paths.outputs={tmp_path}/outputs", *short(*overrides), *overrides)


def _run_py(arguments, folder, files, file_size, environment):
    """Runs in a new process: run.py as started from the command line, with its output in files."""
    os.chdir(folder)
    os.environ.update(environment)
    sys.path[:0] = [environment["PYTHONPATH"]] if "PYTHONPATH" in environment else []
    for number, file in zip((1, 2), files):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    if file_size:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    sys.argv = ["run.py", *arguments]
    runpy.run_path(str(ROOT / "run.py"), run_name="__main__")


class Forked:
    """`python run.py ...` on TINY in a process of its own, forked after torch was imported, so that it starts
    immediately. Records go below folder/outputs."""

    cli.register()  # sets PYTHONPATH
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            *("pytest", "hydra.main", "hydra._internal.hydra", "kdexp.command.cli"),  # what this file imports
            *("kdexp.command.sweep", "kdexp.command.summarize", "sklearn.datasets"),
            "torch._inductor",  # torch imports its compiler when the first optimizer is made
        ]
    )

    def __init__(self, folder, *arguments, tiny=True, file_size=None, env=()):
        self.files = [folder.parent / f"{time.time_ns()}.{name}" for name in ("out", "err")]
        words = (*(TINY if tiny else ()), f"paths.outputs={folder}/outputs", *arguments)
        self.process = self.context.Process(target=_run_py, args=(words, folder, self.files, file_size, dict(env)))
        self.process.start()

    def wait(self, check=None):
        """Wait until it ends: returncode, stdout and stderr, as from subprocess.run. check: the expected exit code."""
        self.process.join(300)
        self.returncode = self.process.exitcode
        self.stdout, self.stderr = (file.read_text() if file.exists() else "" for file in self.files)
        assert check is None or self.returncode == check, self.stderr
        return self


@pytest.fixture
def forked(tmp_path):
    """`forked(*arguments)` starts one; `.wait()` ends it."""
    return lambda *arguments, **options: Forked(tmp_path, *arguments, **options)


@pytest.fixture
def run(forked):
    """`run(*arguments)` starts one and waits for it."""
    return lambda *arguments, check=None, **options: forked(*arguments, **options).wait(check)
