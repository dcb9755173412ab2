"""The command line as users run it: real processes on a few digits."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from conftest import TINY, Forked

import kdexp
from kdexp import ROOT
from kdexp.experiment.networks import build_student
from kdexp.record import Record

FILES = {
    "config.yaml",
    "epochs.csv",
    "student.pt",
    "predictions.npy",
    "right.npy",
    "logits.npy",
    "status.json",
    "result.json",
    "run.log",
}
COLUMNS = "epoch,lr,train_loss,ce_loss,distill_loss,train_acc,test_loss,test_acc,test_top5,val_acc,seconds"
VARIANT = "batch_size=16,dataset.limit=64,dataset.limit_test=50,epochs=2,recipe=quick"


def numbers(folder):
    """epochs.csv without seconds."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(open(folder / "epochs.csv"))]


def test_one_run_its_record_and_the_same_command_again(run, tmp_path):
    done = run("distill=SP", "teacher=wrn16_1", "student=resnet8", check=0)
    folder = tmp_path / "outputs/digits/wrn16_1-resnet8/sp" / VARIANT / "seed1"
    assert {path.name for path in folder.iterdir()} == FILES
    assert (folder / "epochs.csv").read_text().splitlines()[0] == COLUMNS and len(numbers(folder)) == 2
    result, status = (json.loads((folder / name).read_text()) for name in ("result.json", "status.json"))
    assert status["status"] == "done" and status["fingerprint"] == result["fingerprint"]
    last = numbers(folder)[-1]
    assert result["test_acc"] == float(last["test_acc"]) and (
        result["teacher"],
        result["student"],
        result["distill"],
    ) == ("wrn16_1", "resnet8", "sp")
    assert (
        set(torch.load(folder / "student.pt", weights_only=True))
        and np.load(folder / "predictions.npy").dtype == np.uint8
        and 100 * np.unpackbits(np.load(folder / "right.npy"), count=50).mean() == pytest.approx(result["test_acc"])
    )
    teacher = tmp_path / "outputs/digits/wrn16_1/none" / VARIANT / "seed1"
    assert json.loads((teacher / "result.json").read_text())["test_acc"] == result["teacher_test_acc"]
    assert "is missing and trained first" in done.stderr and str(folder) in done.stderr and done.stdout == ""
    network = kdexp.load(folder)
    assert not network.training and network.config["distill"]["name"] == "sp"
    before = (folder / "result.json").stat().st_mtime_ns
    again = run("distill=sp", check=0)
    assert "done before   SP seed 1" in again.stderr and "rerun=all" in again.stderr
    assert (folder / "result.json").stat().st_mtime_ns == before
    run("distill=sp", "rerun=all", check=0)
    rerun = json.loads((folder / "result.json").read_text())
    assert (folder / "result.json").stat().st_mtime_ns > before and rerun["student_sha256"] == result["student_sha256"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["outputs"]  # nothing of Hydra's beside it


def test_a_sweep_equals_its_single_runs_and_ends_with_the_table(run, tmp_path):
    sweep = run("-m", "distill=none,KD,od", "seed=1,2", check=0)
    assert "6 runs: 0 done before, 6 to run in 2 groups" in sweep.stderr and "6 of 6 done" in sweep.stderr
    assert re.search(r"none +[\d.]+ +[\d.]+ +2\b", sweep.stdout) and "OD" in sweep.stdout
    folder = tmp_path / "outputs/digits/wrn16_1-resnet8/od" / VARIANT / "seed2"
    together = numbers(folder), json.loads((folder / "result.json").read_text())
    assert together[1]["group_size"] == 3
    run("distill=od", "seed=2", "rerun=all", check=0)
    alone = numbers(folder), json.loads((folder / "result.json").read_text())
    assert (
        alone[0] == together[0]
        and alone[1]["student_sha256"] == together[1]["student_sha256"]
        and alone[1]["group_size"] == 1
    )
    again = run("-m", "distill=none,KD,od", "seed=1,2", check=0)
    assert "6 done before, 0 to run" in again.stderr and again.stdout.splitlines()[-6:] is not None


def test_one_failing_run_does_not_stop_the_others(run, tmp_path):
    done = run("-m", "distill=kd,none", "optimizer.lr=0.01,1e30", check=1)
    assert "2 of 4 done, 2 not" in done.stderr and done.stderr.count("the loss is not finite") >= 2
    states = {}
    for path in (tmp_path / "outputs").rglob("status.json"):
        states.setdefault(json.loads(path.read_text())["status"], []).append(path.parent)
    assert sorted(map(len, states.values())) == [2, 3]
    assert all("diverged at epoch 1 step" in (folder / "run.log").read_text() for folder in states["diverged"])
    again = run("-m", "distill=kd,none", "optimizer.lr=0.01,1e30", check=1)
    assert "loss" not in again.stderr.split("2 of 4 done")[0]  # nothing is trained again


def test_a_baseline_can_be_the_teacher_of_others(run, tmp_path):
    """Self-distillation: the teacher's folder is one of the sweep's own jobs."""
    done = run("-m", "teacher=wrn16_1", "student=wrn16_1", "distill=kd,none", check=0)
    assert "missing and trained first" not in done.stderr and "2 of 2 done" in done.stderr
    assert "the student starts as the teacher did" in done.stderr


def test_two_processes_train_a_missing_teacher_once(tmp_path):
    command = [sys.executable, str(ROOT / "run.py"), *TINY, f"paths.outputs={tmp_path}"]
    both = [subprocess.Popen([*command, f"distill={name}"], stderr=subprocess.PIPE, text=True) for name in ("kd", "sp")]
    told = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert sum("is missing and trained first" in text for text in told) == 1
    log = (tmp_path / "digits/wrn16_1/none" / VARIANT / "seed1/run.log").read_text()
    assert log.count("done   test") == 1


LONG = (*TINY, "-m", "distill=none,fn,od", "epochs=8", "batch_size=4")
LONG_OD = "digits/wrn16_1-resnet8/od/batch_size=4,dataset.limit=64,dataset.limit_test=50,epochs=8,recipe=quick/seed1"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    Forked(folder, *LONG, tiny=False).wait(check=0)
    return folder / "outputs"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stop_and_go_on(undisturbed, tmp_path, forked, run, number):
    """Interrupted, terminated or killed in the middle, the same command resumes and gets the numbers of an undisturbed
    run."""
    started, outputs = forked(*LONG, tiny=False), tmp_path / "outputs"
    deadline = time.time() + 120
    while time.time() < deadline and not (
        (outputs / LONG_OD / "epochs.csv").exists() and len(numbers(outputs / LONG_OD)) > 3
    ):
        time.sleep(0.02)
    os.kill(started.process.pid, number)
    told = started.wait(check={signal.SIGKILL: -9}.get(number, 130)).stderr
    assert number == signal.SIGKILL or "Go on: type the same command again" in told
    assert 3 < len(numbers(outputs / LONG_OD)) < 8
    done = run(*LONG, tiny=False, check=0)
    assert "goes on at epoch" in done.stderr
    for result in undisturbed.rglob("result.json"):
        part = outputs / result.relative_to(undisturbed).parent
        assert numbers(part) == numbers(result.parent), part
        assert (
            json.loads((part / "result.json").read_text())["student_sha256"]
            == json.loads(result.read_text())["student_sha256"]
        )


def test_a_teacher_of_ones_own(run, tmp_path):
    run("distill=none", "student=wrn16_1", check=0)
    file = tmp_path / "outputs/digits/wrn16_1/none" / VARIANT / "seed1/student.pt"
    done = run("distill=kd", f"teacher_checkpoint={file}", check=0)
    assert re.search(r"teacher .*student.pt   test [\d.]+ %", done.stderr)
    results = [
        json.loads(path.read_text()) for path in (tmp_path / "outputs/digits/wrn16_1-resnet8").rglob("result.json")
    ]
    assert len(results) == 1 and len(results[0]["teacher_checkpoint_sha256"]) == 64
    wrong = run("distill=kd", "teacher=wrn16_2", f"teacher_checkpoint={file}")
    assert (
        wrong.returncode == 1
        and "does not fit wrn16_2: stages.0.0.conv1.weight is 16x16x3x3 in the file, 32x16x3x3 in the network"
        in wrong.stderr
    )


def test_a_stopped_teacher(run, tmp_path):
    """Stopped after one epoch, it equals a full training after its first epoch; after none, the initial weights."""
    done = run("-m", "distill=none,kd", "teacher_epoch=0,1,null", check=0)
    assert re.search(r"KD +0 .*KD +1 ", done.stdout, re.S) and "4 of 4 done" in done.stderr
    runs = {
        Record(path.parent).config["stop_epoch"]: path.parent
        for path in tmp_path.glob("outputs/*/wrn16_1/**/result.json")
    }
    drawn, stopped, whole = runs[0], runs[1], runs[None]
    assert numbers(stopped) == numbers(whole)[:1] and len(numbers(whole)) == 2
    (row,) = numbers(drawn)
    assert row["epoch"] == "0" and row["train_loss"] == ""
    network = kdexp.load(drawn)
    fresh = build_student(network.config).state_dict()
    assert all(torch.equal(one, fresh[name]) for name, one in network.state_dict().items())


def test_another_run_in_the_same_folder_is_refused(run, tmp_path):
    run("distill=none", "epochs=1", check=0)
    (config,) = (tmp_path / "outputs").rglob("config.yaml")
    config.write_text(config.read_text().replace("momentum: 0.9", "momentum: 0.8"))
    config.with_name("result.json").unlink()  # as if it had been stopped
    status = config.with_name("status.json")
    status.write_text(status.read_text().replace(json.loads(status.read_text())["fingerprint"], "0" * 16))
    done = run("distill=none", "epochs=1", check=1)
    assert (
        "optimizer.momentum was 0.8, is 0.9" in done.stderr and "tag=NAME" in done.stderr and "rerun=all" in done.stderr
    )


MISTAKES = [
    ("distll=sp", "Did you mean distill=sp?"),
    ("student=resnet31", "Did you mean student=resnet32?"),
    ("teacher=wrn_16_4", "Did you mean teacher=wrn16_4?"),
    (
        "student=mobilenet",
        "Did you mean student=mobilenetv2? There are: mlp, mlp1200, mobilenetv2, resnet, resnet8, resnet8x4, resnet14",
    ),
    ("student=shufflenet", "Did you mean student=shufflenetv1 or student=shufflenetv2?"),
    (
        "student=ResNet50",
        "Did you mean student=resnet50? There are: mlp, mlp1200, mobilenetv2, resnet, resnet8, resnet8x4, resnet14",
    ),
    ("student=resnet26", "Did you mean student=resnet model.student.depth=26?"),
    ("distill=spp", "Did you mean distill=sp?"),
    ("distill.tempp=3", "Did you mean distill.temperature=3?"),
    ("seed=abc", "seed=abc: Value 'abc'.*Integer"),
    ("optimizer.lr=-1", "greater than 0"),
    ("epochs=0", "greater than 0"),
    ("device=cuda:7", "this machine has"),
    ("lr=0.1", "Did you mean"),
    ("dataset=cifar", "Did you mean dataset=cifar10"),
    ("distill=kd,sp", "for several values, add -m: python run.py -m distill=kd,sp"),
]


def test_mistakes_get_one_message_and_leave_nothing_behind(run, tmp_path):
    for argument, message in MISTAKES:
        done = run(argument)
        assert done.returncode == 1 and re.search(re.escape(message) if "?" in message else message, done.stderr), (
            argument,
            done.stderr,
        )
        assert len(done.stderr.strip().splitlines()) == 1 and "Traceback" not in done.stderr, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_in_one_job_of_a_sweep_stops_it_before_the_first(run, tmp_path):
    done = run("-m", "distill=kd,sp", "optimizer.lr=0.1,-1", check=1)
    assert done.stderr.strip() == "optimizer.lr=-1: must be a number greater than 0" and list(tmp_path.iterdir()) == []


def test_no_data(run, tmp_path):
    """Without data or a network connection: it takes seconds, prints one message, and creates nothing."""
    began = time.time()
    done = run(
        "dataset=cifar100",
        "dataset.limit=null",
        "dataset.limit_test=null",
        f"paths.data={tmp_path}/data",
        env={**os.environ, "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"},
    )
    assert (
        done.returncode == 1
        and "cannot be downloaded from here" in done.stderr
        and "dataset=digits" in done.stderr
        and "Traceback" not in done.stderr
    )
    assert time.time() - began < 60 and list(tmp_path.iterdir()) == []


def test_help_is_quick_and_without_torch():
    code = (
        "import sys, runpy; sys.argv = ['run.py', '--help']\ntry: runpy.run_path(%r, run_name='__main__')\n"
        "except SystemExit: pass\nassert 'torch' not in sys.modules"
    ) % str(ROOT / "run.py")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (
        done.returncode == 0 and "quickstart" in done.stdout and "distill=" in done.stdout and "wrn16_4" in done.stdout
    ), done.stderr
    networks = [word for word in done.stdout.split() if re.fullmatch(r"resnet(14|110)|wrn16_(2|10)", word)]
    assert networks[:4] == ["resnet14", "resnet110", "wrn16_2", "wrn16_10"]


def test_summarize(run, tmp_path):
    run("-m", "distill=kd", "seed=1,2", check=0)
    command = [sys.executable, str(ROOT / "analysis/summarize.py"), str(tmp_path / "outputs")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (missing,) = re.findall(r"The baseline is missing: python run.py (.*)", done.stdout)
    run(*missing.split(), check=0)
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert "missing" not in done.stdout and re.search(r"none +\d", done.stdout)
    again = run("-m", "distill=kd", "seed=1,2", check=0)
    assert "missing" not in again.stdout and re.search(r"none +\d", again.stdout)
    rows = list(csv.DictReader(open(tmp_path / "outputs/summary.csv")))
    assert {"dataset", "teacher", "student", "distill", "n", "mean", "std"} < set(rows[0]) and {
        row["distill"] for row in rows
    } == {"none", "kd"}
    kd = next(row for row in rows if row["distill"] == "kd")
    accuracies = [
        json.loads(path.read_text())["test_acc"]
        for path in (tmp_path / "outputs/digits/wrn16_1-resnet8").rglob("result.json")
    ]
    assert (
        float(kd["mean"]) == pytest.approx(np.mean(accuracies))
        and float(kd["std"]) == pytest.approx(np.std(accuracies, ddof=1))
        and kd["n"] == "2"
    )
    assert (tmp_path / "outputs/summary.md").read_text().startswith("| dataset")


def test_a_plan_tells_recipes_apart(run):
    """Three rows with the same pair and seed say which recipe they use, and nothing more."""
    words = (
        "dataset=digits",
        "recipe=quick,crd240,cutmix300",
        "epochs=1",
        "distill=none,kd",
        "seed=1,2",
        "dry_run=true",
    )
    planned = run("-m", *words, tiny=False, check=0).stdout.splitlines()
    told = [re.findall(r"\S+=\S+", line) for line in planned[1:-1]]
    names = [[f"recipe={name}"] for name in ("quick", "crd240", "cutmix300")]
    assert told[:3] == names and told[3:] == [name for name in names for _ in ("seed 1", "seed 2")]  # teachers first
    same = run("-m", *words[:1], *words[2:], tiny=False, check=0).stdout
    assert "with" not in same and "=" not in same
