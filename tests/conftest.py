import subprocess
import sys

import pytest
from hydra import compose, initialize_config_dir

from kdexp import CONF, ROOT, cli, naming

DISTILL = sorted(file.stem for file in (CONF / "distill").glob("*.yaml"))
METHODS = [name for name in DISTILL if name != "none"]
NETWORKS = sorted(file.stem for file in (CONF / "model").glob("*.yaml"))
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


@pytest.fixture(scope="session")
def hydra():
    """`hydra(*overrides)` composes and resolves a configuration as run.py does."""
    cli.register()
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        yield lambda *overrides: naming.plain(compose("config", list(overrides)))


@pytest.fixture
def tiny(hydra, tmp_path):
    """The same on 64 digits, with records below tmp_path."""
    return lambda *overrides: hydra(*TINY, f"paths.outputs={tmp_path}/outputs", *overrides)


@pytest.fixture
def run(tmp_path):
    """`run(*arguments)` is `python run.py ...` as a real process; records go below tmp_path/outputs."""

    def start(*arguments, tiny=True, check=None, **popen):
        command = [
            sys.executable,
            str(ROOT / "run.py"),
            *(TINY if tiny else ()),
            f"paths.outputs={tmp_path}/outputs",
            *arguments,
        ]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300, **popen)
        if check is not None:
            assert done.returncode == check, done.stderr
        return done

    return start
