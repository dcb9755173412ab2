"""Where groups run: two terminals at once, joblib, submitit's local executor and ray give the same records as this process."""

import json
import os
import signal
import subprocess
import sys
import time
from unittest.mock import Mock

import pytest
from conftest import TINY, Forked
from test_survival import numbers, states

from kdexp import ROOT
from kdexp.engines import dispatch
from kdexp.engines.joblib import held, take_slot
from kdexp.jobs.job import Job

SWEEP = ("-m", "distill=none,kd,sp,od", "seed=1,2", "threads=1")


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("expected")
    Forked(folder, *SWEEP).wait(check=0)
    return numbers(folder / "outputs")


def trained_once(outputs):
    logs = list(outputs.rglob("run.log"))
    return len(logs) == 9 and all(log.read_text().count("done   test") == 1 for log in logs)


def test_two_terminals(forked, tmp_path, expected):
    both = [forked(*SWEEP), forked(*SWEEP)]
    for one in both:
        one.wait(check=0)
    assert numbers(tmp_path / "outputs") == expected and trained_once(tmp_path / "outputs")
    assert all("8 of 8 done" in one.stderr for one in both)


ENGINES = {
    "joblib": ("engine=joblib", "engine.workers=2"),
    "submitit": ("engine=submitit", "engine.cluster=local", "engine.parameters.timeout_min=10"),
    "ray": ("engine=ray",),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ENGINES)
def test_an_engine(run, tmp_path, expected, name):
    pytest.importorskip(name)
    done = run(*SWEEP, *ENGINES[name], check=0)
    assert numbers(tmp_path / "outputs") == expected and trained_once(tmp_path / "outputs")
    assert "started teacher wrn16_1" in done.stderr and "ended   group 2 of 2 · seed 2   4 of 4 done" in done.stderr
    assert "8 of 8 done" in done.stderr
    assert "8 done before, 0 to run" in run(*SWEEP, *ENGINES[name], check=0).stderr


@pytest.mark.slow
def test_an_engine_stops_and_goes_on(tmp_path):
    """SIGTERM to the command alone: its workers save and exit."""
    pytest.importorskip("joblib")
    outputs = tmp_path / "outputs"
    sweep = ("-m", "distill=none", "seed=1,2,3", "epochs=40", "batch_size=4", "threads=1", *ENGINES["joblib"])
    command = [sys.executable, str(ROOT / "run.py"), *TINY, *sweep, f"paths.outputs={outputs}"]
    going = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while len(list(outputs.rglob("checkpoint.pt"))) < 2:
        time.sleep(0.05)
        assert going.poll() is None
    going.send_signal(signal.SIGTERM)
    told = going.communicate(timeout=60)[1]
    assert going.returncode == 130 and told.count("Go on: type the same command again") == 3, told
    assert "running" in states(outputs)
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "goes on at epoch" in done.stderr and "3 of 3 done" in done.stderr


@pytest.mark.slow
def test_a_killed_worker_costs_its_own_group(run, forked, tmp_path):
    pytest.importorskip("joblib")
    outputs, words = tmp_path / "outputs", ("-m", "distill=none", "seed=1,2,3", "threads=1", "epochs=6", "batch_size=4")
    going = forked(*words, "engine=joblib", "engine.workers=1")
    while not list(outputs.rglob("checkpoint.pt")):
        time.sleep(0.02)
    (status,) = [json.loads(file.read_text()) for file in outputs.rglob("status.json")]
    os.kill(status["pid"], signal.SIGKILL)
    going.wait(check=1)
    assert "its worker crashed" in going.stderr and "2 of 3 done, 1 not:" in going.stderr
    assert "goes on at epoch" in run(*words, check=0).stderr


def test_an_engine_that_is_not_installed(run, tmp_path):
    (tmp_path / "ray.py").write_text("raise ImportError")
    blocked = run("engine=ray", env={"PYTHONPATH": str(tmp_path)}, check=1)
    assert blocked.stderr.splitlines() == ['ray: the package ray is not installed: pip install -e ".[ray]"']


def test_each_process_has_a_gpu_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    take_slot(str(tmp_path), ["3", "GPU-5"])
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    take_slot(str(tmp_path), ["3", "GPU-5"])
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-5"
    with pytest.raises(RuntimeError, match="no free GPU"):
        take_slot(str(tmp_path), ["3", "GPU-5"])
    held.pop(0).release()
    take_slot(str(tmp_path), ["3", "GPU-5"])
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"
    held.clear()


def test_a_teacher_that_fails_fails_its_students(run, tmp_path):
    """Once, and the baseline goes on."""
    pytest.importorskip("joblib")
    done = run("-m", "distill=none,kd,sp", "recipe.lr=1e30", "optimizer.lr=0.01", *ENGINES["joblib"], check=1)
    assert done.stderr.count("the loss is not finite") == 1 and "1 of 3 done, 2 not:" in done.stderr
    assert done.stderr.count("its teacher could not be trained") == 4
    assert states(tmp_path / "outputs") == ["diverged", "done", "failed", "failed"]
    words = ("-m", "distill=none,kd,sp", "recipe.lr=1e30", "optimizer.lr=0.01")
    assert "is missing and trained first" not in run(*words, check=1).stderr
    assert "is missing and trained first" in run(*words, "rerun=failed", check=1).stderr


def test_a_run_that_another_process_takes_first_is_waited_for(tiny, monkeypatch, capsys):
    """Between the check and the worker's lock: not a failure, and resumed where the other process left off."""
    submitted, free = [], iter((True, False, False, True, True))
    monkeypatch.setattr(dispatch, "POLL_SECONDS", 0)
    monkeypatch.setattr(dispatch, "_is_free", lambda job: next(free))

    def submit(configs, title):
        submitted.append(title)
        return Mock()  # done, without an error

    job = Job(tiny("distill=none"))
    dispatching = dispatch.Dispatch(submit, 1, lambda handle: None)
    dispatching.run([[job]], lambda: None)
    assert len(submitted) == 2 and dispatching.lost == {str(job.record.folder)}
    assert capsys.readouterr().err.count("waiting for none seed 1") == 1
