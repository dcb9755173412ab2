"""What can happen to a sweep: kills, full disks, corrupt files, two terminals, failing runs. Nothing is lost, nothing
is trained twice, and nothing corrupt is used."""

import csv
import json
import os
import random
import re
import signal
import socket
import time

import pytest
import torch

import kdexp
from kdexp.config import naming
from kdexp.jobs.job import Job
from kdexp.record import COLUMNS, Record
from kdexp.storage import lease, seal
from kdexp.teachers import Teachers
from kdexp.training.group import Group

ONE = ("distill=fn", "threads=1", "epochs=6", "batch_size=4")


def numbers(outputs):
    """Of every run: epochs.csv without seconds, and the sha256 of the weights."""
    found = {}
    for result in sorted(outputs.rglob("result.json")):
        rows = [row.rpartition(",")[0] for row in (result.parent / "epochs.csv").read_text().splitlines()]
        found[str(result.parent.relative_to(outputs))] = rows, json.loads(result.read_text())["student_sha256"]
    return found


def states(outputs):
    return sorted(json.loads(path.read_text())["status"] for path in outputs.rglob("status.json"))


def read_all(outputs):
    """Read as another process would at this moment: every file that exists is complete."""
    for path in outputs.rglob("*.*"):
        try:
            if path.suffix == ".json":
                json.loads(path.read_text())
            elif path.name == "epochs.csv":
                assert all(len(row) == len(COLUMNS) for row in csv.reader(path.open()))
            elif path.name == "student.pt":
                torch.load(path, weights_only=True)
            elif path.name == "checkpoint.pt":
                content = path.read_bytes()
                assert bytes.fromhex(seal.sha256(content[:-32])) == content[-32:]
        except FileNotFoundError:
            pass  # replaced or removed between listing and reading


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    from conftest import Forked

    folder = tmp_path_factory.mktemp("undisturbed")
    Forked(folder, *ONE).wait(check=0)
    return numbers(folder / "outputs")


def test_killed_at_twenty_random_moments(forked, tmp_path, undisturbed):
    moments = random.Random(0)
    for _ in range(20):
        going = forked(*ONE)
        until = time.monotonic() + moments.uniform(0.3, 1.8)
        while time.monotonic() < until:
            read_all(tmp_path / "outputs")
        going.process.kill()
        going.wait()
    going = forked(*ONE)
    while going.process.is_alive():
        read_all(tmp_path / "outputs")
    going.wait(check=0)
    assert numbers(tmp_path / "outputs") == undisturbed
    assert not [path for path in (tmp_path / "outputs").rglob("seed1/.*")]


@pytest.mark.parametrize(
    "method", ["fn distill.stages=2", "ab", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ft", "fsp"))]
)
def test_killed_in_its_pretraining(forked, tmp_path, method):
    """Several times, by SIGKILL and by SIGTERM: it goes on in its pretraining, to the rows and weights of one undisturbed."""
    (tmp_path / "calm").mkdir()
    words = (
        *f"distill={method}".split(),
        "threads=1",
        "batch_size=8",
        "distill.pretrain_epochs=12",
    )
    calm = forked(*words, f"paths.outputs={tmp_path}/calm").wait(check=0)
    assert re.search(r"pretraining +1/12 +loss [\d.e-]+", calm.stderr)
    for moment, name in enumerate(("SIGKILL", "SIGTERM", "SIGKILL")):
        going, deadline = forked(*words), time.monotonic() + 60
        while len(rows_of(tmp_path / "outputs")) <= 1 + 2 * moment and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(going.process.pid, getattr(signal, name))
        going.wait()
    assert not list((tmp_path / "outputs").rglob("*-resnet8/*/*/*/epochs.csv"))
    last = forked(*words).wait(check=0)
    assert re.search(r"goes on at epoch \d+ of its pretraining", last.stderr)
    assert numbers(tmp_path / "outputs") == numbers(tmp_path / "calm")
    stages = [[row.rpartition(",")[0] for row in rows_of(tmp_path / place)] for place in ("outputs", "calm")]
    assert stages[0] == stages[1] and len(stages[0]) == 13 and stages[0][0] == "epoch,lr,loss"
    (result,) = (json.loads(path.read_text()) for path in (tmp_path / "outputs").rglob("*-resnet8/*/*/*/result.json"))
    assert result["pretrain_epochs"] == 12 and result["seconds"] > result["pretrain_seconds"] > 0
    assert "pretraining.csv" in result["sha256"]


def rows_of(outputs):
    """The lines of the one pretraining.csv below a folder."""
    return [line for path in outputs.rglob("pretraining.csv") for line in path.read_text().splitlines()]


def test_a_full_disk(forked, tmp_path, undisturbed):
    """No file may grow beyond 50 kB: one message; with enough room it resumes and gets the same numbers."""
    full = forked(*ONE, file_size=50_000)
    full.wait(check=1)
    assert "Traceback" not in full.stderr
    assert re.search(
        r"checkpoint.pt cannot be written: File too large. Make room and type the same command", full.stderr
    )
    forked(*ONE).wait(check=0)
    assert numbers(tmp_path / "outputs") == undisturbed


@pytest.mark.parametrize("place", ["/proc/kdexp", "a file"])
def test_outputs_that_cannot_be_written(forked, tmp_path, place):
    (tmp_path / "a file").write_text("")
    going = forked(*ONE, f"paths.outputs={place}")
    going.wait(check=1)
    assert "Traceback" not in going.stderr
    assert re.search("cannot be written: .*paths.outputs=DIR", going.stderr) and len(going.stderr.splitlines()) == 2


def truncated(content):
    return content[: len(content) // 2]


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    from conftest import Forked

    folder = tmp_path_factory.mktemp("finished")
    Forked(folder, "distill=none", "threads=1").wait(check=0)
    return numbers(folder / "outputs")


@pytest.mark.parametrize("damage", [truncated, flipped, lambda content: b""], ids=["truncated", "flipped", "empty"])
def test_damaged_files_of_a_finished_run(forked, tmp_path, finished, damage):
    """Each is reported, set aside and never used; the same command makes the run complete again."""
    forked("distill=none", "threads=1").wait(check=0)
    (folder,) = (path.parent for path in (tmp_path / "outputs").rglob("result.json"))
    for name in ("config.yaml", "epochs.csv", "predictions.npy", "student.pt", "result.json", "status.json"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(damage(content))
        broken = seal.damaged(folder)
        if name == "status.json" and damage is flipped and not broken:  # still json: a letter of a name or a number
            (folder / name).write_bytes(content)
            continue
        assert broken == [name]
        if name == "student.pt":
            with pytest.raises(ValueError, match="damaged student.pt"):
                kdexp.load(folder)
        going = forked("distill=none", "threads=1")
        going.wait(check=0)
        assert f"{folder / name} is damaged" in going.stderr and "Traceback" not in going.stderr
        assert (folder / f"{name}.damaged").read_bytes() == damage(content)
        assert seal.damaged(folder) == [] and numbers(tmp_path / "outputs") == finished


@pytest.mark.parametrize("damage", [truncated, flipped], ids=["truncated", "flipped"])
def test_a_damaged_checkpoint(forked, tmp_path, undisturbed, damage):
    going = forked(*ONE, "distill=none")
    while not list((tmp_path / "outputs").rglob("checkpoint.pt")):
        time.sleep(0.01)
    going.process.kill()
    going.wait()
    (checkpoint,) = (tmp_path / "outputs").rglob("checkpoint.pt")
    checkpoint.write_bytes(damage(checkpoint.read_bytes()))
    again = forked(*ONE, "distill=none")
    again.wait(check=0)
    assert "checkpoint.pt is damaged" in again.stderr and "goes on at" not in again.stderr
    assert checkpoint.with_name("checkpoint.pt.damaged").exists()


def test_a_damaged_teacher_is_trained_again(forked, tmp_path):
    forked("distill=none", "student=wrn16_1").wait(check=0)
    (teacher,) = (tmp_path / "outputs").rglob("student.pt")
    before = numbers(tmp_path / "outputs")
    teacher.write_bytes(flipped(teacher.read_bytes()))
    going = forked("distill=kd")
    going.wait(check=0)
    assert f"{teacher} is damaged" in going.stderr and "is missing and trained first" in going.stderr
    assert before.items() <= numbers(tmp_path / "outputs").items()


@pytest.mark.parametrize("damage", [truncated, flipped, lambda content: b""], ids=["truncated", "flipped", "empty"])
def test_any_damaged_file_of_a_teacher(tiny, damage):
    """A student gets its teacher whichever file is damaged: trained again if its result or its weights are in doubt."""
    job, trained = Job(tiny("distill=kd")), []

    def teacher():
        teachers = Teachers()

        def train(missing):
            trained.append(missing)
            Group([missing], teachers, lambda: None, "").train()

        return teachers.of(job, train, lambda: None)[0].score.acc

    accuracy = teacher()
    folder = naming.folder(job.teachers[0].config)
    files = sorted(path.name for path in folder.iterdir())
    of_a_run = {*seal.SEALED} - {"pretraining.csv"}  # a label-only training has no pretraining
    assert {"status.json", "run.log"} | of_a_run < {*files} and len(trained) == 1
    for name in files:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(damage(content))
        trained.clear()
        assert teacher() == accuracy
        assert len(trained) == (name in (*seal.SEALED, "result.json")), name
        assert trained or (folder / name).read_bytes() == damage(content)


LAB = """
import weakref
import torch
from kdexp.distill.kd import KD

living = weakref.WeakSet()

class Broken(KD):
    def forward(self, student, teacher):
        if self.temperature == 3:
            raise RuntimeError("a defect of mine")
        return super().forward(student, teacher)

class Large(KD):
    def forward(self, student, teacher):
        living.add(self)
        if len(living) > 4:
            raise torch.OutOfMemoryError("not for so many")
        return super().forward(student, teacher)
"""
EIGHT = ("-m", "distill=kd", "plugins=[mylab]", "distill.temperature=1,2,3,4,5,6,7,8")


@pytest.fixture
def lab(tmp_path):
    (tmp_path / "mylab.py").write_text(LAB)
    return {"PYTHONPATH": str(tmp_path)}


def test_one_bad_run_of_eight(run, tmp_path, lab):
    bad = run(*EIGHT, "distill._target_=mylab.Broken", check=1, env=lab)
    assert "7 of 8 done, 1 not:" in bad.stderr and bad.stderr.count("a defect of mine") == 2
    assert states(tmp_path / "outputs") == ["done"] * 8 + ["failed"]  # with the teacher
    (failed,) = (path for path in (tmp_path / "outputs").rglob("status.json") if '"failed"' in path.read_text())
    log = failed.with_name("run.log").read_text()
    assert "Traceback" in log and "a defect of mine" in log
    again = run(*EIGHT, "distill._target_=mylab.Broken", check=1, env=lab)
    assert "8 runs: 7 done before, 1 to run in 1 group" in again.stderr and again.stderr.count("done before  ") == 7


def test_students_that_do_not_fit_go_on_in_two_halves(run, tmp_path, lab):
    done = run(*EIGHT, "distill._target_=mylab.Large", check=0, env=lab)
    assert done.stderr.count("8 students do not fit in memory; they go on in two halves") == 1
    assert "8 of 8 done" in done.stderr and states(tmp_path / "outputs") == ["done"] * 9
    sizes = [json.loads(path.read_text())["group_size"] for path in (tmp_path / "outputs").rglob("kd/**/result.json")]
    assert sizes == [4] * 8


def test_on_error_stop(run, tmp_path, lab):
    stopped = run(*EIGHT, "distill._target_=mylab.Broken", "on_error=stop", "epochs=3", check=1, env=lab)
    assert "stopped at the first failure (on_error=stop)" in stopped.stderr and "Traceback" not in stopped.stderr
    assert states(tmp_path / "outputs") == ["done", "failed"] + ["running"] * 7
    again = run(*EIGHT, "distill._target_=mylab.Broken", "epochs=3", check=1, env=lab)
    assert again.stderr.count("goes on at epoch 1") == 7 and "7 of 8 done" in again.stderr


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_a_clusters_warning_saves_and_queues_again(forked, tmp_path, number):
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    (tmp_path / "scontrol").chmod(0o755)
    going = forked("distill=none", "epochs=1000", env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"})
    while not list((tmp_path / "outputs").rglob("checkpoint.pt")):
        time.sleep(0.02)
    os.kill(going.process.pid, number)
    going.wait(check=130)
    assert (tmp_path / "asked").read_text() == "requeue 7\n"
    assert "Go on: type the same command again" in going.stderr and "SLURM job 7 requeued" in going.stderr


def test_who_is_at_work(tmp_path):
    """A live process is left alone; a dead one of this host and a silent one elsewhere are taken over."""

    def locked(**status):
        record = Record(tmp_path / "seed1")
        record.folder.mkdir(exist_ok=True)
        text = json.dumps({"status": "running", "heartbeat": time.time(), **status})
        (record.folder / "status.json").write_text(text)
        if taken := record.lock():
            record.unlock()
        return taken

    here = {"host": socket.gethostname()}
    assert not locked(**here, pid=os.getppid()) and not locked(host="elsewhere", pid=1)
    assert locked(**here, pid=os.getpid()) and locked(**here, pid=2**22 + 1)
    assert locked(host="elsewhere", pid=1, heartbeat=time.time() - lease.SILENT - 1)
    assert locked(host="elsewhere", pid=1, status="failed")
    first, second = Record(tmp_path / "seed2"), Record(tmp_path / "seed2")
    assert first.lock() and not second.lock()
    first.unlock()
    assert second.lock()


def test_plans_start_nothing(run, tmp_path):
    sweep = ("-m", "distill=none,kd,sp", "seed=1,2", "teacher=wrn16_1,wrn16_2")
    first = run(*sweep, "dry_run=true", check=0)
    assert "10 runs: 0 done, 10 to run, and 2 teachers first.  Nothing was started." in first.stdout
    assert "none, KD, SP" in first.stdout and first.stdout.count("?") == 6 and list(tmp_path.iterdir()) == []
    assert "prepared: 10 runs composed" in run(*sweep, "prepare=true", check=0).stderr and not list(tmp_path.iterdir())
    run("-m", "distill=none,kd,sp", "seed=1", check=0)
    known = run("-m", "distill=none,kd,sp", "seed=1,2", "dry_run=true", check=0)
    assert re.search(
        r"6 runs: 3 done, 3 to run, about [\d.]+ s\.  One by one \(share=1\): about [\d.]+ s\.", known.stdout
    )


def test_a_run_that_was_taken_over_is_left_alone(tiny, capsys):
    """A process that was suspended for longer than a lease lasts finds another one's claim: it writes nothing more."""
    job, steps = Job(tiny("distill=none", "epochs=3")), []
    assert job.record.lock()
    claim = job.record.folder.with_name(f".{job.record.folder.name}.lock")

    def interrupted():
        steps.append(None)
        if len(steps) == 6:  # in the second epoch
            claim.write_text(claim.read_text().replace("token=", "token=0"))
            before.extend((path.name, path.read_bytes()) for path in sorted(job.record.folder.iterdir()))

    before = []
    Group([job], Teachers(), interrupted, "").train()
    assert "another one has taken over the run" in capsys.readouterr().err and job.taken and not job.trained
    assert len(steps) == 8 and before == [
        (path.name, path.read_bytes()) for path in sorted(job.record.folder.iterdir())
    ]


def _claim(folder):
    record = Record(folder)
    record.lock()
    os._exit(0)  # as a killed process ends


def test_what_a_killed_process_leaves_of_a_finished_run(forked, tmp_path):
    """Killed right after result.json: the same command removes its checkpoint, its claim and a half-written file."""
    from conftest import Forked

    forked("distill=none", "threads=1").wait(check=0)
    (folder,) = (path.parent for path in (tmp_path / "outputs").rglob("result.json"))
    whole = sorted(path.name for path in folder.iterdir())
    for name in ("checkpoint.pt", ".status.json.4194305"):
        (folder / name).write_bytes(b"left")
    killed = Forked.context.Process(target=_claim, args=(folder,))
    killed.start()
    killed.join()
    assert len(list(folder.parent.iterdir())) == 2
    assert "done before" in forked("distill=none", "threads=1").wait(check=0).stderr
    assert sorted(path.name for path in folder.iterdir()) == whole and list(folder.parent.iterdir()) == [folder]
