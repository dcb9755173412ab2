"""What a run was made with and is no longer so: a user's code, defaults, the weights of its teacher."""

import json
import re
import shutil
import time

import pytest
import torch

from kdexp.config import sources
from kdexp.report import load, summarize
from kdexp.report.showing import labels
from kdexp.storage import seal

METHOD = """
from kdexp.distill.base import DistillMethod
from mylab.terms import gap


class Mine(DistillMethod):
    def __init__(self, student_taps, teacher_taps, temperature: float = 2.0):
        super().__init__(student_taps, teacher_taps)
        self.temperature = temperature

    def forward(self, student, teacher):
        return gap(student.logits / self.temperature, teacher.logits / self.temperature)
"""
TERMS = "def gap(a, b):\n    return (a - b).square().mean()\n"
YAML = 'name: mine\n_target_: mylab.method.Mine\nlabel: Mine\nnote: ""\nweight: 1\ntemperature: 2.0\n'


@pytest.fixture
def mylab(tmp_path):
    """A plugin of one method: `edit(file, old, new)` changes a file of it."""
    for name, text in {"method.py": METHOD, "terms.py": TERMS, "conf/distill/mine.yaml": YAML}.items():
        file = tmp_path / "mylab" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def edit(name, old, new):
        file = tmp_path / "mylab" / name
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))
        shutil.rmtree(
            file.parent / "__pycache__", ignore_errors=True
        )  # two edits within a second keep their time stamp

    return edit


def mine(folder):
    (file,) = folder.glob("outputs/digits/wrn16_1-resnet8/mine/*/seed1/result.json")
    return json.loads(file.read_text())


def test_the_day_of_a_method_s_author(mylab, run, tmp_path):
    words = ("-m", "plugins=[mylab]", "distill=none,mine", "epochs=1")
    first = run(*words, check=0)
    before = mine(tmp_path)
    assert "2 of 2 done" in first.stderr and set(before["sources"]) == {"distill"}

    mylab("terms.py", "def gap", "# the gap\n\n\ndef gap")  # a comment is no change
    assert "plan    2 runs: 2 done before, 0 to run" in run(*words, check=0).stderr

    mylab("terms.py", "square()", "abs()")  # the formula
    refused = run(*words, check=1)
    assert refused.stderr.count("\n") == 1 and "the code of mylab.method.Mine has changed" in refused.stderr
    assert "rerun=changed" in refused.stderr and "tag=NAME" in refused.stderr and mine(tmp_path) == before
    again = run(*words, "rerun=changed", check=0)
    assert "done before   none seed 1" in again.stderr and "1 done before, 1 to run" in again.stderr
    second = mine(tmp_path)
    assert second["student_sha256"] != before["student_sha256"] and second["sources"] != before["sources"]

    mylab("method.py", "temperature: float = 2.0", "temperature: float = 4.0")  # a default, in class and yaml
    mylab("conf/distill/mine.yaml", "temperature: 2.0", "temperature: 4.0")
    refused = run(*words, check=1)
    assert "distill.temperature was 2.0, is 4.0" in refused.stderr and "rerun=changed" in refused.stderr
    done = run(*words, "rerun=changed", check=0)
    third = mine(tmp_path)
    assert third["student_sha256"] != second["student_sha256"]
    assert f"{third['test_acc']:.2f}" in next(line for line in done.stdout.splitlines() if line.startswith("Mine"))
    assert "2 done before, 0 to run" in run(*words, "rerun=changed", check=0).stderr  # nothing has changed since


def test_runs_of_different_code_are_not_averaged(mylab, run):
    words = ("-m", "plugins=[mylab]", "distill=none,mine", "epochs=1")
    run(*words, "seed=1", check=0)
    mylab("terms.py", "square()", "abs()")
    run(*words, "seed=2", check=0)
    table = run(*words, "seed=1,2", "rerun=none", check=1)
    assert "seed1 was made with other settings or code" in table.stderr and "seed2" not in table.stderr


@pytest.mark.parametrize(
    "old, new, same",
    [
        ("return (a - b).square().mean()", "return  (a-b).square().mean()   # as in the paper", True),
        ("def gap(a, b):", 'def gap(a, b):\n    """The gap."""\n', True),
        ("square", "abs", False),
        ("(a - b)", "(b - a)", False),
    ],
)
def test_what_counts_as_a_change(mylab, tmp_path, monkeypatch, old, new, same):
    monkeypatch.syspath_prepend(tmp_path)
    package = f"lab_{tmp_path.name}"  # a name of its own, as Python keeps the packages it has found
    (tmp_path / "mylab").rename(tmp_path / package)

    def digest():
        sources.digest.cache_clear()
        return sources.digest(f"{package}.method.Mine", package, f"{package}.method")

    method, terms = (tmp_path / package / name for name in ("method.py", "terms.py"))
    method.write_text(METHOD.replace("mylab.terms", f"{package}.terms"))
    before = digest()
    relative = METHOD.replace("from mylab.terms", "from .terms")
    terms.write_text(TERMS.replace(old, new))
    assert (digest() == before) is same
    method.write_text(relative)
    other = digest()
    terms.write_text(TERMS)
    assert (digest() == other) is same  # followed through a relative import, too


def test_students_of_different_weights_stand_apart(run, tmp_path):
    """The teacher's folder is deleted, and it is trained again with another number of threads."""
    run("-m", "distill=none,kd", "threads=1", check=0)
    (folder,) = tmp_path.glob("outputs/digits/wrn16_1/none/*")
    other = tmp_path / "other"
    shutil.copytree(tmp_path / "outputs", other)
    shutil.rmtree(folder)
    done = run("-m", "distill=none,kd,sp", "teacher_seed=1", "threads=2", check=0)
    one, two = (
        json.loads(next(tmp_path.glob(f"outputs/digits/*/{name}/*/seed1/result.json")).read_text())
        for name in ("kd", "sp")
    )
    assert "KD" in done.stdout
    if one["teachers"] == two["teachers"]:
        pytest.skip("one thread and two give the same bits here")
    heads = [line for line in done.stdout.splitlines() if line.startswith("digits   wrn16_1 (")]
    assert len(heads) == 2 and all(
        f"weights {run['teachers'][0]['sha256'][:8]}" in "".join(heads) for run in (one, two)
    )
    assert done.stdout.count("stand in a table of their own") == 2 and done.stdout.count("rerun=changed") == 2
    again = run("-m", "distill=none,kd,sp", check=0)
    assert again.stderr.count("learned from other weights than its teacher has now") == 1
    whole = run("-m", "distill=none,kd,sp", "rerun=changed", check=0)
    assert "2 done before, 1 to run" in whole.stderr
    assert whole.stdout.count("digits   wrn16_1 (") == 1 and "rerun=changed" not in whole.stdout
    merged = summarize(load(other, tmp_path / "outputs"))  # of two machines
    assert [list(rows.distill) for rows in labels.pairs(merged)] == [["none", "kd"], ["none", "kd", "sp"]]


def test_a_mistake_that_was_mended_is_no_change_to_ask_about(mylab, run, tmp_path):
    """The commonest hour of a method's author: it fails, the code is mended, the same command is typed again."""
    words = ("plugins=[mylab]", "distill=mine", "epochs=1")
    mylab("terms.py", "square()", "sqare()")
    assert "AttributeError" in run(*words, check=1).stderr
    mylab("terms.py", "sqare()", "square()")
    run(*words, check=0)
    assert mine(tmp_path)["test_acc"] > 0
    mylab("terms.py", "return (a", "return ((a")
    broken = run(*words, check=1).stderr
    assert re.search(r"terms.py, line 2: .*return \(\(a - b\)", broken) and "Traceback" not in broken


def test_a_stopped_run_of_another_teacher_starts_over_if_asked_to(forked, run, tmp_path):
    words = ("distill=kd", "epochs=60", "dataset.limit=512")
    going = forked(*words)
    rows = "outputs/digits/wrn16_1-resnet8/kd/*/seed1/epochs.csv"
    while not (found := [*tmp_path.glob(rows)]) or len(found[0].read_text().splitlines()) < 3:
        assert going.process.is_alive()
        time.sleep(0.05)
    going.process.terminate()
    going.wait()
    (teacher,) = tmp_path.glob("outputs/digits/wrn16_1/none/*/seed1")
    result = json.loads((teacher / "result.json").read_text())
    weights = torch.load(teacher / "student.pt")
    next(iter(weights.values())).mul_(1.0001)  # as if it had been trained again
    torch.save(weights, teacher / "student.pt")
    content = (teacher / "student.pt").read_bytes()
    result["student_sha256"] = result["sha256"]["student.pt"] = seal.sha256(content)
    (teacher / "result.json").write_text(json.dumps(result | {"seal": seal.of_result(result)}))
    refused = run(*words, check=1).stderr
    assert "cannot go on where it stopped: the weights of its teacher are now" in refused
    assert "again: the same command" not in refused
    done = run(*words, "rerun=changed", check=0).stderr
    assert "done    KD seed 1" in done and "goes on at epoch" not in done


def test_the_code_of_a_teacher_counts_for_its_students(mylab, run, tmp_path):
    net = "from kdexp.models.resnet import ResNet\n\n\ndef net(num_classes, image_size):\n    return ResNet(8, num_classes)\n"
    (tmp_path / "mylab/conf/model").mkdir()
    (tmp_path / "mylab/nets.py").write_text(net)
    (tmp_path / "mylab/conf/model/mynet.yaml").write_text(
        "name: mynet\n_target_: mylab.nets.net\nnum_classes: ${dataset.num_classes}\nimage_size: ${dataset.image_size}\n"
    )
    words = ("plugins=[mylab]", "distill=kd", "teacher=mynet", "epochs=1")
    run(*words, check=0)
    mylab("nets.py", "ResNet(8,", "ResNet(14,")
    refused = run(*words, check=1).stderr
    assert "digits/mynet/none" in refused and "the code of mylab.nets.net has changed" in refused
    done = run(*words, "rerun=changed", check=0).stderr
    assert "teacher mynet seed 1 has changed and is trained again" in done and "done    KD seed 1" in done


def test_code_is_read_and_not_run(mylab, tmp_path, monkeypatch):
    """A module that the package imports late may be a script."""
    monkeypatch.syspath_prepend(tmp_path)
    package = f"lab_{tmp_path.name}"
    (tmp_path / "mylab").rename(tmp_path / package)
    (tmp_path / package / "script.py").write_text("raise SystemExit('run')\n")
    late = METHOD.replace(
        "from mylab.terms import gap", "from .terms import gap\n\ndef late():\n    from .script import main"
    )
    (tmp_path / package / "method.py").write_text(late)
    before = sources.digest(f"{package}.method.Mine", package, f"{package}.method")
    (tmp_path / package / "script.py").write_text("raise SystemExit('another')\n")
    sources.digest.cache_clear()
    assert sources.digest(f"{package}.method.Mine", package, f"{package}.method") != before
