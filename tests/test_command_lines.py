"""Whatever is typed is either planned or rejected with one message, never a traceback; nothing is written."""

import contextlib
import io
import runpy
import subprocess
import sys

import pytest
from conftest import DISTILL, NETWORKS
from hydra.core.global_hydra import GlobalHydra
from hydra.core.singleton import Singleton
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from kdexp import ROOT

KEYS = {
    "distill": [*DISTILL, "KD", "Sp", "od,od", "none,", "kdd", "", "[kd]", "choice(kd,sp)", "range(1,3)", "glob(*)"],
    "student": [*NETWORKS, "resnet31", "wrn16-4", "resnet", "vgg", "42", "resnet26"],
    "teacher": [*NETWORKS, "WRN16_4", "null"],
    "pair": [
        "wrn40_2-wrn16_2",
        "wrn40_2-wrn16_2,resnet56-resnet20",
        "wrn40_2",
        "-",
        "a-b",
        "wrn40_2-wrn16_2-resnet8",
        "wrn40_2-wrn16_2 optimizer.lr=0.1",
        "wrn40_2-wrn16_2 seed=1 x,resnet56-resnet20",
        "",
    ],
    "dataset": ["cifar10", "digits", "cifar", "cifar10,digits", "folder"],
    "recipe": ["quick", "wrn200", "fast"],
    "optimizer": ["sgd", "adamw", "adam"],
    "engine": ["process", "joblib", "slurm"],
    "experiment": ["original", "null", "new"],
    "sweep": ["quickstart", "nothing"],
    "seed": ["1", "1,2,3", "range(1,4)", "-1", "x", "1.5", "null", "{a: 1}", "[1,2]", "1e400"],
    "teacher_seed": ["2", "-3", "one"],
    "teacher_epoch": ["0", "1", "null", "-1", "9999", "half"],
    "stop_epoch": ["0", "1", "null", "-1", "9999"],
    "teacher_checkpoint": ["nowhere.pt", "null", "/dev/null", "/"],
    "teacher_normalize": ["null", "[[0,0,0],[1,1,1]]", "cifar", "{a: 1}", "[[0.5,0.5,0.5],[1,0,1]]"],
    "epochs": ["3", "0", "-1", "many", "1e3", "${seed}", "${nothing}", "${oc.env:HOME}"],
    "batch_size": ["8", "0", "null", "'16'"],
    "device": ["auto", "cpu", "cuda:99", "gpu", "cuda:", "null"],
    "precision": ["fp32", "fp16", "16"],
    "deterministic": ["true", "maybe", "1"],
    "compile": ["false", "yes", "auto,true"],
    "threads": ["2", "0", "-1", "all", "1.5"],
    "tag": ["mine", "../../x", "a b", "ü", "'a,b'", "null", "a/b"],
    "rerun": ["failed", "some", "all"],
    "on_error": ["stop", "ignore"],
    "share": ["2", "-1", "all"],
    "plugins": ["[os]", "os", "[nothing]"],
    "dataset.limit": ["10", "-5", "0", "ten", "null"],
    "dataset.validation": ["10", "-1", "1e9"],
    "dataset.num_classes": ["7", "none"],
    "dataset.mean": ["[0,0,0]", "3", "[x]", "null"],
    "dataset.root": ["nowhere", "/", "3", "null"],
    "dataset.size": ["0", "big"],
    "dataset.limitt": ["10"],
    "distill.weight": ["3", "-1", "nan", "inf", "heavy", "1,2"],
    "distill.temperature": ["2", "0", "warm"],
    "distill.kd_weight": ["1", "-1"],
    "distill._target_": ["os.system", "kdexp.distill.sp.SP", "kdexp.nothing.Here", "3"],
    "distill.tempp": ["3"],
    "optimizer.lr": ["0.1", "-1", "0", "fast", "0.1,-1"],
    "optimizer.momentum": ["0.5", "x"],
    "optimizer.betas": ["[0.9,0.99]", "3"],
    "model.student.depth": ["26", "27", "deep"],
    "model.student": ["3", "null"],
    "recipe.drops": ["[0.5]", "[2]", "0.5", "[x]"],
    "paths.outputs": ["''", "null", "3"],
    "distll": ["sp"],
    "lr": ["0.1"],
    "colour": ["red"],
    "hydra.verbose": ["maybe"],
    "hydra/launcher": ["basic", "nothing"],
}
WORDS = st.sampled_from(sorted(KEYS)).flatmap(
    lambda key: st.sampled_from(KEYS[key]).map(lambda value: f"{key}={value}")
)
ODD = st.sampled_from(
    ["distill", "=", "distill==sp", "+seed=1", "~seed", "++x.y=1", "--nothing", "-x", "seed=", "a=b=c", "@", "'"]
)
LINES = st.tuples(st.booleans(), st.lists(st.one_of(WORDS, WORDS, WORDS, WORDS, WORDS, ODD), min_size=1, max_size=4))


@pytest.fixture
def no_hydra():
    """As in a new process; restores the session's own Hydra afterwards."""
    before = Singleton.get_state()
    GlobalHydra.instance().clear()
    yield
    Singleton.set_state(before)


def judge(code, out, err):
    """Either planned, or rejected with a message of a few lines and no traceback."""
    assert "Traceback" not in out + err, err
    if code == 0:
        assert "Nothing was started." in out, (out, err)
    else:
        assert 0 < len(err.strip().splitlines()) <= 12 and max(map(len, err.splitlines())) < 1500, err


@pytest.mark.slow
@settings(
    max_examples=500,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
    derandomize=True,
    phases=[Phase.generate],
)
@given(LINES)
def test_any_command_line_in_this_process(no_hydra, tmp_path, line):
    multirun, words = line
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.chdir(tmp_path)
        patch.setattr(sys, "argv", ["run.py", *["-m"] * multirun, "dry_run=true", *words])
        try:
            runpy.run_path(str(ROOT / "run.py"), run_name="__main__")
        except SystemExit as end:
            code = end.code or 0
        finally:
            GlobalHydra.instance().clear()
    judge(code, out.getvalue(), err.getvalue())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", range(10))
def test_some_as_real_processes(tmp_path, number):
    keys = sorted(KEYS)
    words = [f"{key}={KEYS[key][number % len(KEYS[key])]}" for key in keys[number::17]]
    command = [sys.executable, str(ROOT / "run.py"), "dry_run=true", *["-m"] * (number % 2), *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    judge(done.returncode, done.stdout, done.stderr)
    assert list(tmp_path.iterdir()) == []
