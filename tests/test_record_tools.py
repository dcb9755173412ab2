"""python -m kdexp.record: what is listed, deleted, packed and exported is what the records hold, and nothing else."""

import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
import torch
from conftest import Forked
from omegaconf import OmegaConf
from synthetic import record

import kdexp
from kdexp import ROOT
from kdexp.command import summarize
from kdexp.command.record import main
from kdexp.experiment.data import load_data
from kdexp.record import Record, runs
from kdexp.storage import seal

LIVE = {"host": socket.gethostname(), "pid": os.getppid()}


def told(capsys, *arguments):
    """What a command prints: (stdout, stderr with the message it ends by)."""
    message = ""
    try:
        main([str(word) for word in arguments])
    except SystemExit as end:
        message = str(end.code)
    out, err = capsys.readouterr()
    return out, err + message


def live(folder, **changes):
    """Make a run belong to a live process: this one's parent."""
    state = json.loads((folder / "status.json").read_text()) | LIVE | {"heartbeat": time.time(), **changes}
    (folder / "status.json").write_text(json.dumps(state))
    return folder


@pytest.fixture
def outputs(tmp_path):
    """Eight runs of all states."""
    home = tmp_path / "outputs"
    for seed in (1, 2):
        record(home, "none", seed, 70.0 + seed), record(home, "kd", seed, 71.0 + seed, weight=0.9)
    record(home, "sp", 1, 72.0, weight=500)
    record(home, "sp", 2, status="diverged", weight=500, state={"error": "diverged at epoch 3"})
    record(home, "sp", 10, status="running", weight=500)
    live(record(home, "at", 1, status="running"))
    return home


def names(chosen):
    return sorted(f"{run.facts['distill']}{run.facts['seed']}" for run in chosen)


def test_list(outputs, capsys):
    out, err = told(capsys, "list", outputs)
    *rows, total = out.splitlines()[1:]
    size = sum(path.stat().st_size for path in outputs.rglob("*") if path.is_file()) / 1e6
    assert total == f"8 runs: 5 done, 1 running, 1 stopped, 1 diverged   {size:.1f} MB" and not err
    cells = [re.split("  +", row.strip()) for row in rows]
    assert [row[2:6] for row in cells if row[2] == "SP"] == [
        ["SP", "weight=500", "1", "done"],
        ["SP", "weight=500", "2", "diverged"],
        ["SP", "weight=500", "10", "stopped"],
    ]
    assert cells[0][:3] == ["cifar100", "resnet20", "none"] and cells[2][:2] == ["cifar100", "wrn16_4 -> resnet20"]
    assert {row[6] for row in cells if row[5] == "done"} == {"71.00", "72.00", "73.00"}


@pytest.mark.parametrize(
    "conditions, expected",
    [
        ("distill=KD", "kd1 kd2"),
        ("distill=kd,none seed=2", "kd2 none2"),
        ("distill.weight=5e2", "sp1 sp10 sp2"),
        ("teacher=null", "none1 none2"),
        ("status=done,diverged distill=sp", "sp1 sp2"),
        ("recipe=crd240 status=running", "at1"),
        ("variant=weight=0.9 epochs=240 dataset.limit=null", "kd1 kd2"),
        ("optimizer.lr=0.050 model.student.depth=20 seed=10", "sp10"),
    ],
)
def test_select(outputs, conditions, expected):
    assert names(runs.select(runs.find([outputs]), conditions.split())) == expected.split()


@pytest.mark.parametrize(
    "words, said",
    [
        (["distil=kd"], "distil=kd: no run has such a key. Did you mean distill=kd? There are: dataset, "),
        (["weight=500"], "Did you mean distill.weight=500?"),
        (["seed=1,3"], "seed=1,3: no run has 3. There are: 1, 2, 10"),
        (["distill=sp", "status=failed"], "status=failed: no run has failed. There are: diverged, done, stopped"),
        (["seed="], "seed=: no run has that."),
    ],
)
def test_a_choice_that_nothing_fulfils_is_told_what_there_is(outputs, capsys, words, said):
    for command in (["list"], ["rm", "--yes"], ["pack", "x.zip"]):
        out, err = told(capsys, *command, outputs, *words)
        assert said in err and err.count("\n") == 0 and not out
    assert len(list(outputs.rglob("status.json"))) == 8 and not os.path.exists("x.zip")


def test_no_folder_no_records_no_run(tmp_path, capsys):
    empty, other = tmp_path / "empty", record(tmp_path / "other")
    empty.mkdir()
    for words, said in (
        (["list", tmp_path / "x"], "there is no such folder. Records are made by"),
        (["list", empty], "no records there. Records are made by"),
        (["export", tmp_path / "x"], "there is no such folder. List the runs with"),
        (["export", tmp_path], "this folder itself holds no run. See what is below it"),
        (["export", other], "no weights there"),
        (["pack", tmp_path], "name the zip to write"),
    ):
        assert said in told(capsys, *words)[1]


def test_a_damaged_record_is_listed_as_that(outputs, capsys):
    folder = next(outputs.rglob("sp/*/seed1"))
    (folder / "result.json").write_text("{")
    (next(outputs.rglob("kd/*/seed1")) / "config.yaml").write_text("a: [")
    (outputs / "conf").mkdir()
    (outputs / "conf/config.yaml").write_text("not: ours")
    assert "2 damaged" in told(capsys, "list", outputs)[0]
    told(capsys, "rm", outputs, "status=damaged", "--yes")
    assert not folder.exists() and (outputs / "conf/config.yaml").exists() and len(runs.find([outputs])) == 6


def test_nothing_heavy_is_imported(outputs, tmp_path):
    lines = [["list"], ["pack", str(tmp_path / "x.zip")], ["rm", "--yes", "distill=kd"]]
    code = f"""import sys
from kdexp.command.record import main
for line in {lines}:
    main([*line, {str(outputs)!r}])
assert not {{"torch", "pandas", "hydra", "numpy"}} & set(sys.modules)"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_rm_shows_asks_and_deletes(outputs, capsys, monkeypatch):
    before = sorted(outputs.rglob("*"))
    out, err = told(capsys, "rm", outputs, "--yes")
    assert "Nothing was deleted" in err
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    out, err = told(capsys, "rm", outputs, "distill=kd")
    assert "2 runs: 2 done" in out and err.startswith("Nothing was deleted") and "--yes" in err
    for answer in ("n\n", "\n", "", "no\n"):
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        out, err = told(capsys, "rm", outputs, "distill=kd")
        assert "Delete these 2 runs, 0.0 MB? [y/N] Nothing was deleted." in err
    assert sorted(outputs.rglob("*")) == before
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    assert told(capsys, "rm", outputs, "distill=kd")[1].endswith("deleted 2 runs, 0.0 MB\n")
    gone = set(before) - set(outputs.rglob("*"))
    kd = outputs / "cifar100/wrn16_4-resnet20/kd"
    assert gone == {path for path in before if path == kd or kd in path.parents} and kd.parent.exists()
    told(capsys, "rm", outputs, "--yes", "status=done,diverged,stopped")
    assert names(runs.find([outputs])) == ["at1"] and [path.name for path in outputs.iterdir()] == ["cifar100"]
    live(next(outputs.rglob("at/*/seed1")), status="failed")
    told(capsys, "rm", outputs, "distill=at", "--yes")
    assert outputs.exists() and not list(outputs.rglob("*"))


def test_rm_refuses_what_is_at_work(outputs, capsys):
    out, err = told(capsys, "rm", outputs, "seed=1", "--yes")
    assert f"process {LIVE['pid']} on {LIVE['host']} is working on it. Nothing was deleted" in err
    assert len(runs.find([outputs])) == 8
    held = Record(next(outputs.rglob("sp/*/seed1")))  # locked, as by a process that has just begun
    assert held.lock()
    out, err = told(capsys, "rm", outputs, "distill=sp", "--yes")
    assert "was not deleted: another process is working on it" in err and "deleted 2 runs" in err
    assert [path.name for path in held.folder.parent.iterdir() if path != held.folder] == [".seed1.lock"]
    held.unlock()


def test_rm_says_whose_teacher_goes(tmp_path, capsys):
    teacher = record(tmp_path, "none", student="wrn16_4", result={"student_sha256": "ab" * 32})
    folder = record(tmp_path, "kd", result={"teachers": [{"sha256": "ab" * 32}]})
    out, err = told(capsys, "rm", tmp_path, "student=wrn16_4", "--yes")
    assert "wrn16_4 seed 1 is the teacher of 1 student that would stay (resnet20 KD seed 1)" in err
    assert folder.exists() and not teacher.exists()


PRIVATE = ("jdoe", "alice", "nodeseven", "bignode", "secretlab", "Windfall")


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A sweep in the home of a user whose name must not leak: 3 seeds, one diverged, one failed, one running."""
    home = tmp_path / "home/jdoe"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home)), monkeypatch.setenv("LOGNAME", "jdoe"), monkeypatch.chdir(home)
    monkeypatch.setattr(socket, "gethostname", lambda: "bignode.secretlab.org")
    outputs = home / "Windfall/outputs"
    common = {"state": {"host": "nodeseven"}}
    folders = [record(outputs, name, seed, 70 + seed / 3, **common) for name in ("none", "kd") for seed in (1, 2, 3)]
    error = f"failed at epoch 1: OSError: {outputs}/x and /mnt/home/alice/y of jdoe@bignode.secretlab.org, my_jdoe on nodeseven: no"
    lost = {"status": "failed", **common, "state": {"host": "nodeseven", "error": error}}
    folders += [record(outputs, "sp", 1, 71.0, **common), record(outputs, "sp", 2, **lost | {"status": "diverged"})]
    folders += [record(outputs, "sp", 3, **lost), live(record(outputs, "at", 1, status="running"))]
    for folder in folders:
        text = (folder / "config.yaml").read_text()
        text = text.replace("teacher_checkpoint: null", f"teacher_checkpoint: {home}/weights/mine.pt")
        more = f"logger:\n  name: wandb\n  entity: jdoe\nengine:\n  name: slurm\n  log: {home}/slurm\n"
        text = text.replace("data: data", f"data: {home}/data").replace("outputs: outputs", f"outputs: {outputs}")
        text = text.replace("plugins: []\n", f"plugins:\n- mylab\n{more}")
        (folder / "config.yaml").write_text(text)
        (folder / "run.log").write_text(
            f"{error}\n  File {ROOT}/kdexp/x.py\n  {home}/weights/mine.pt\n  {home}/p.py, 3\n"
        )
        (folder / "checkpoint.pt").write_bytes(b"jdoe")
        (folder / "student.pt.damaged").write_bytes(b"jdoe")
        np.save(folder / "predictions.npy", np.arange(9, dtype=np.uint8))
        np.save(folder / "right.npy", np.packbits(np.arange(9) < 6))
        if (folder / "result.json").exists():
            (folder / "student.pt").write_bytes(b"weights")
            files = {name: (folder / name).read_bytes() for name in seal.SEALED if (folder / name).exists()}
            result = json.loads((folder / "result.json").read_text())
            (folder / "result.json").write_text(json.dumps(seal.sealed(result, files)))
    return outputs


def contents(file):
    with zipfile.ZipFile(file) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_pack_holds_what_a_table_needs_and_nothing_private(elsewhere, tmp_path, capsys):
    out, err = told(capsys, "pack", tmp_path / "p.zip", elsewhere)
    assert "9 runs: 7 done, 1 failed, 1 diverged" in out
    assert f"left out: {elsewhere}/cifar100/wrn16_4-resnet20/at/base/seed1: it is still running" in err
    packed = contents(tmp_path / "p.zip")
    assert list(packed) == sorted(packed) and len({name.rpartition("/")[0] for name in packed}) == 9
    files = {"config.yaml", "epochs.csv", "predictions.npy", "result.json", "right.npy", "status.json"}
    assert {name.rpartition("/")[2] for name in packed} == files
    for name, content in packed.items():
        assert not [word for word in PRIVATE if word in name or word.encode() in content], (name, content)
    kd = "cifar100/wrn16_4-resnet20/kd/base/seed1"
    config, before = OmegaConf.create(packed[f"{kd}/config.yaml"].decode()), Record(elsewhere / kd).config
    assert config.pop("paths") == {"data": "data", "outputs": "outputs"} and before.pop("paths")
    assert config.pop("teacher_checkpoint") == "mine.pt" and before.pop("teacher_checkpoint")
    assert config.pop("logger") == {"name": "wandb"} and config.pop("engine") == {"name": "slurm"}
    assert config == {key: value for key, value in before.items() if key not in ("logger", "engine")}
    errors = [
        json.loads(packed[f"cifar100/wrn16_4-resnet20/sp/base/seed{seed}/status.json"])["error"] for seed in (2, 3)
    ]
    assert errors == ["failed at epoch 1: OSError"] * 2
    assert {"host", "pid"}.isdisjoint(json.loads(packed[f"{kd}/status.json"]))


def test_pack_makes_the_same_bytes_and_seals_them(elsewhere, tmp_path, capsys):
    for name in ("a.zip", "b.zip"):
        told(capsys, "pack", "--to", tmp_path / name, elsewhere, "distill=kd,none")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        archive.extractall(tmp_path / "a")
    (folder,) = (tmp_path / "a").rglob("kd/base/seed1")
    assert seal.damaged(folder) == []
    for name in ("config.yaml", "epochs.csv", "predictions.npy", "result.json", "right.npy"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert seal.damaged(folder) == [name]
        (folder / name).write_bytes(whole)
    told(capsys, "pack", tmp_path / "w.zip", elsewhere, "distill=kd", "--weights")
    assert contents(tmp_path / "w.zip")["cifar100/wrn16_4-resnet20/kd/base/seed1/student.pt"] == b"weights"
    (elsewhere / "cifar100/wrn16_4-resnet20/kd/base/seed1/epochs.csv").write_text("1")
    out, err = told(capsys, "pack", tmp_path / "d.zip", elsewhere, "distill=kd")
    assert "2 runs: 2 done" in out and "seed1: damaged epochs.csv" in err


def test_a_name_that_is_part_of_a_run_is_told(elsewhere, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("LOGNAME", "kd")
    out, err = told(capsys, "pack", tmp_path / "p.zip", elsewhere, "distill=kd")
    assert "name: kd\n" in contents(tmp_path / "p.zip")["cifar100/wrn16_4-resnet20/kd/base/seed1/config.yaml"].decode()
    assert "still in the zip, as part of a run's name or settings: kd" in err


def summarized(capsys, monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["summarize.py", *map(str, words)])
    summarize.main()
    return capsys.readouterr().out


def test_summarize_opens_a_zip(elsewhere, tmp_path, capsys, monkeypatch):
    shutil.rmtree(elsewhere / "cifar100/wrn16_4-resnet20/at")
    told(capsys, "pack", tmp_path / "p.zip", elsewhere)
    original = summarized(capsys, monkeypatch, elsewhere)
    zipped = summarized(capsys, monkeypatch, tmp_path / "p.zip")
    assert "1 of 3 (1 diverged, 1 failed)" in original
    assert zipped == original.replace(str(elsewhere), str(tmp_path / "p.zip"))
    for name in ("summary.csv", "summary.md", "summary.tex", "summary.json"):
        assert (tmp_path / "p" / name).read_text() == (elsewhere / name).read_text()
    with zipfile.ZipFile(tmp_path / "p.zip") as archive:
        archive.extractall(tmp_path / "again")
    folder = summarized(capsys, monkeypatch, tmp_path / "again")
    assert folder == original.replace(str(elsewhere), str(tmp_path / "again"))


def test_the_page_of_a_zip_names_the_zip(tmp_path, capsys, monkeypatch):
    for seed in (1, 2):
        record(tmp_path / "outputs", "none", seed, 70 + seed), record(tmp_path / "outputs", "kd", seed, 70 + seed / 2)
    told(capsys, "pack", tmp_path / "p.zip", tmp_path / "outputs")
    summarized(capsys, monkeypatch, tmp_path / "p.zip", "--html", "--out", tmp_path / "page")
    page = (tmp_path / "page/report.html").read_text()
    assert f"{tmp_path}/p.zip/cifar100/resnet20/none" in page and not (tmp_path / "p").exists()


def test_a_zip_writes_nowhere_else(tmp_path, capsys, monkeypatch):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("../../evil/config.yaml", "x")
    (tmp_path / "half.zip").write_bytes(b"PK")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a/photo.jpg", "x")
    for name, said in (("bad", "would land outside"), ("half", "is not a complete zip"), ("other", "no finished runs")):
        with pytest.raises(SystemExit, match=said):
            summarized(capsys, monkeypatch, tmp_path / f"{name}.zip")
    assert not list(tmp_path.rglob("evil"))


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """A teacher and a student on 64 digits."""
    folder = tmp_path_factory.mktemp("real")
    Forked(folder, "distill=kd", "threads=1").wait(check=0)
    return folder / "outputs"


def test_an_exported_network_gives_our_accuracy(real, tmp_path, capsys):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    for result in real.rglob("result.json"):
        out, _ = told(capsys, "export", result.parent, "--to", tmp_path)
        assert all(float(number) <= 1e-4 for number in re.findall(r"within (\S+)", out)) and out.count("within") == 2
        content = (tmp_path / "model.onnx").read_bytes()
        assert str(ROOT).encode() not in content and b"site-packages" not in content
        network = kdexp.load(result.parent)
        test = load_data(network.config, torch.device("cpu")).test
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        images = (test.images / 255).numpy()
        (logits,) = session.run(None, {session.get_inputs()[0].name: images})
        right = int((logits.argmax(1) == test.labels.numpy()).sum())
        assert 100 * right / len(images) == json.loads(result.read_text())["test_acc"]
        assert session.run(None, {"images": images[:1]})[0] == pytest.approx(logits[:1], abs=1e-5)
        state = torch.load(tmp_path / "model.pt", weights_only=True)
        means = np.array(network.config["dataset"]["mean"])
        assert state["mean"].flatten().numpy() == pytest.approx(means) and state["std"].shape == (1, 3, 1, 1)


def test_export_refuses_what_is_not_the_same(real, tmp_path, capsys, monkeypatch):
    from kdexp.command import export

    folder = next(real.rglob("result.json")).parent
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    out, err = told(capsys, "export", folder, "--to", tmp_path / "x")
    assert 'onnxscript is not installed: pip install -e ".[onnx]"' in err and "--format pt" in err
    assert "model.pt" in told(capsys, "export", folder, "--to", tmp_path / "x", "--format", "pt")[0]
    shutil.rmtree(tmp_path / "x")
    monkeypatch.setattr(export.FromPixels, "forward", lambda self, images: self.network(images).logits)
    out, err = told(capsys, "export", folder, "--to", tmp_path / "x", "--format", "pt")
    assert "give different logits" in err and "Nothing was written" in err and not (tmp_path / "x").exists()


def test_an_unpacked_zip_is_an_outputs_folder(real, tmp_path, capsys, run):
    told(capsys, "pack", tmp_path / "p.zip", real)
    with zipfile.ZipFile(tmp_path / "p.zip") as archive:
        archive.extractall(tmp_path / "outputs")
    assert "2 runs: 2 done" in told(capsys, "list", tmp_path / "outputs")[0]
    assert "done before" in run("distill=kd", "threads=1", check=0).stderr
    assert "packed without weights" in run("distill=sp", "threads=1", check=1).stderr
    assert not list(tmp_path.rglob("student.pt"))
