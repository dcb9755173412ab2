"""A real SLURM of one node with two CPUs and no accounting: engine=submitit and `sbatch` of run.py end with the weights
of one process, whatever the scheduler does meanwhile."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from conftest import TINY, Forked
from slurm_cluster import MISSING, cluster
from test_survival import numbers, states

from kdexp import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason=f"SLURM: {MISSING}")]
SHORT = ("threads=1", "epochs=6", "batch_size=4")
SUBMITIT = ("engine=submitit", "engine.cluster=slurm", "engine.parameters.cpus_per_task=1", *SHORT)


@pytest.fixture(scope="module")
def slurm():
    with cluster() as environment:
        yield environment


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("expected")
    Forked(folder, "-m", "distill=none,kd,sp", "seed=1,2", *SHORT).wait(check=0)
    Forked(folder, "distill=none", "seed=3", *SHORT).wait(check=0)
    return numbers(folder / "outputs")


@pytest.fixture
def typed(forked, slurm):
    """`typed(*words)` starts a command with engine=submitit; anything left over after a failed test is killed."""
    started = []
    yield lambda *words: started.append(forked(*SUBMITIT, *words, env=slurm)) or started[-1]
    for one in started:
        one.process.kill()
    subprocess.run("scancel --me --signal=KILL", shell=True, env=os.environ | slurm)


def shell(slurm, line):
    return subprocess.run(line, shell=True, env=os.environ | slurm, check=True, capture_output=True, text=True).stdout


def until(condition, seconds=90):
    """What the condition returns once that is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def held(outputs, count=1):
    """The processes training there, each halted after its first checkpoint, so that whatever follows happens mid-run."""
    pids = set()

    def halt():
        for path in outputs.rglob("checkpoint.pt"):
            pid = json.loads(path.with_name("status.json").read_text())["pid"]
            if pid not in pids:
                os.kill(pid, signal.SIGSTOP)
                pids.add(pid)
        return len(pids) == count

    until(halt)
    return pids


def release(pids):
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def same(outputs, expected, count):
    """All runs there are finished, once each, with the rows and weights of one process."""
    found, logs = numbers(outputs), list(outputs.rglob("run.log"))
    assert len(found) == len(logs) == count
    assert found == {key: expected[key] for key in found}
    assert all(log.read_text().count("done   test") == 1 for log in logs)
    return True


def told(going):
    return going.files[1].read_text() if going.files[1].exists() else ""


def test_a_sweep_from_two_terminals(typed, tmp_path, expected):
    words = ("-m", "distill=none,kd,sp", "seed=1,2")
    both = [typed(*words), typed(*words)]
    for one in both:
        one.wait(check=0)
        assert "6 of 6 done" in one.stderr and "sacct" not in one.stdout + one.stderr
    assert same(tmp_path / "outputs", expected, 7)
    assert any("ended   teacher wrn16_1   1 of 1 done" in one.stderr for one in both)
    assert "6 done before, 0 to run" in typed(*words).wait(check=0).stderr


def test_requeued_by_the_scheduler(typed, slurm, tmp_path, expected):
    going = typed("distill=none")
    held(tmp_path / "outputs")
    shell(slurm, f"scontrol requeue {shell(slurm, 'squeue --noheader --format=%A').strip()}")
    going.wait(check=0)
    assert re.search(r"requeued .* job \d+ resumes from its checkpoint", going.stderr)
    assert same(tmp_path / "outputs", expected, 1)
    (log,) = (tmp_path / "outputs/.submitit").rglob("*.err")
    assert "goes on at epoch" in log.read_text()


def test_a_time_limit(typed, slurm, tmp_path, expected):
    """The warning comes, the run is saved and its job queued again: that of submitit, and one of run.py alone.

    Both have an hour, and in mid-run ten minutes: less than the warning's 570 s and the half minute that SLURM rounds by.
    """
    alone, outputs = tmp_path / "alone", tmp_path / "outputs"
    going = typed("distill=none", "engine.parameters.timeout_min=60", "engine.parameters.slurm_signal_delay_s=570")
    words = " ".join([*TINY, "distill=none", *SHORT, f"paths.outputs={alone}"])
    batch = f"--time=60 --signal=B:USR1@570 --requeue --open-mode=append --output={tmp_path}/alone.out"
    number = shell(slurm, f"sbatch --parsable {batch} --wrap 'exec {sys.executable} {ROOT}/run.py {words}'").strip()
    held(tmp_path, 2)  # SLURM wakes whom it warns
    jobs = shell(slurm, "squeue --noheader --format=%A").split()
    for job in jobs:
        shell(slurm, f"scontrol update jobid={job} timelimit=10")
    for job in jobs:
        until(lambda: shell(slurm, f"squeue --noheader --jobs={job} --Format=RestartCnt").strip() == "1")
        shell(slurm, f"scontrol update jobid={job} timelimit=60")
    going.wait(check=0)
    until(lambda: "COMPLETED" in shell(slurm, f"squeue --noheader --states=all --jobs={number} --format=%T"))
    assert same(outputs, expected, 1) and same(alone, expected, 1)
    assert "requeued group 1 of 1" in going.stderr
    assert f"SLURM job {number} requeued" in (log := (tmp_path / "alone.out").read_text()) and "goes on at epoch" in log


def test_a_job_that_is_cancelled(typed, slurm, tmp_path, expected):
    """It is saved and named, the others go on, and the same command finishes it."""
    words = ("-m", "distill=none", "seed=1,2")
    going = typed(*words)
    pids = held(tmp_path / "outputs", 2)
    number = re.search(r"group 1 of 2 · seed 1 is job (\d+)", told(going))[1]
    shell(slurm, f"scancel {number}")
    release(pids)
    going.wait(check=1)
    assert f"group 1 of 2 · seed 1: SLURM job {number} ended: CANCELLED" in going.stderr
    assert "1 of 2 done, 1 not:" in going.stderr
    assert typed(*words).wait(check=0).stderr.count("done before") == 2
    assert same(tmp_path / "outputs", expected, 2)


def test_the_command_is_killed_and_typed_again(typed, slurm, tmp_path, expected):
    """Two of its jobs run and one pends: they are waited for, and no other is submitted."""
    words, outputs = ("-m", "distill=none", "seed=1,2,3"), tmp_path / "outputs"
    first = typed(*words)
    pids = held(outputs, 2)
    first.process.kill()
    first.wait()
    again = typed(*words)
    until(lambda: told(again).count("is training it") == 2 and "is job" in told(again))
    release(pids)
    again.wait(check=0)
    assert again.stderr.count(" already   ") == 1 and "3 of 3 done" in again.stderr
    assert same(outputs, expected, 3) and len([*outputs.glob(".submitit/*/*_submitted.pkl")]) == 3


def test_ctrl_c(typed, tmp_path, expected):
    """Its jobs save and exit, and the command ends, even though no accounting records what was canceled."""
    outputs, words = tmp_path / "outputs", ("-m", "distill=none", "seed=1,2,3")
    going = typed(*words)
    held(outputs, 2)
    os.kill(going.process.pid, signal.SIGINT)  # SLURM wakes halted jobs before it terminates them
    began = time.monotonic()
    going.wait(check=130)
    assert time.monotonic() - began < 30 and "sacct" not in going.stdout + going.stderr
    assert states(outputs) == ["running", "running"]
    typed(*words).wait(check=0)
    assert same(outputs, expected, 3)


def test_a_job_that_cannot_start(typed):
    """The terminal says why, and Ctrl-C ends it."""
    going = typed("distill=none", "engine.parameters.cpus_per_task=4")
    until(lambda: "waiting for SLURM to start job" in told(going))
    os.kill(going.process.pid, signal.SIGINT)
    going.wait(check=130)
    assert "fewer engine.parameters.cpus_per_task (PartitionConfig)" in going.stderr


def test_what_a_job_asks_for(forked, slurm):
    """As many CPUs as the smallest node has; a partition that is not there is one message."""
    going = forked("distill=none", "engine=submitit", "+engine.parameters.slurm_partition=gpu", env=slurm).wait(check=1)
    assert "submitit, slurm, 1 CPU per job" in going.stderr and "Traceback" not in going.stderr
    assert going.stderr.count("invalid partition specified: gpu") == 1
