"""omit: classes left out of the student's training images; a run's folder as teacher; sweeps of several steps."""

import json

import numpy as np
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra_plugins.kdexp_plugins import KdexpSweeper
from omegaconf import OmegaConf
from synthetic import predicted, record

from kdexp import SWEEPS
from kdexp.command.cli import _params
from kdexp.config import naming
from kdexp.config.compose import without_pair
from kdexp.evaluate.measures import class_accuracies
from kdexp.experiment.data import load_data
from kdexp.jobs.groups import side_by_side
from kdexp.jobs.job import Job
from kdexp.report.comparing.table import summarize
from kdexp.report.reading.records import load
from kdexp.report.showing.findings import sentences
from kdexp.report.showing.labels import blocks, heading
from kdexp.report.showing.output import display


@pytest.fixture
def digits(hydra):
    return lambda *words: hydra("dataset=digits", "teacher=resnet8", "student=resnet8", *words)


def test_only_the_students_training_images_lack_the_class(digits):
    plain, without = (digits("dataset.validation=200", f"omit={omit}") for omit in ("[]", "[3,5]"))
    cpu = torch.device("cpu")
    whole, rest = load_data(plain, cpu), load_data(without, cpu)
    kept = ~torch.isin(whole.train.labels, torch.tensor([3, 5]))
    assert torch.equal(rest.train.images, whole.train.images[kept]) and kept.sum() < len(kept)
    assert torch.equal(rest.train.labels, whole.train.labels[kept])
    for part in ("validation", "test"):
        assert torch.equal(getattr(rest, part).images, getattr(whole, part).images)
    assert {3, 5} <= {*rest.validation.labels.tolist()}


def test_it_is_in_name_and_fingerprint_of_the_student_alone(digits):
    jobs = [Job(digits(f"distill={name}", f"omit={omit}")) for name in ("kd", "none") for omit in ("[]", "[3]")]
    assert len({job.fingerprint for job in jobs}) == len({job.record.folder for job in jobs}) == 4
    assert jobs[0].teachers[0].fingerprint == jobs[1].teachers[0].fingerprint
    assert jobs[1].teacher_keys == jobs[0].teacher_keys and "omit" not in naming.settings(jobs[0].config)
    groups = side_by_side(jobs)
    assert [[job.config["omit"] for job in members] for members in groups] == [[[], []], [[3], [3]]]


@pytest.mark.parametrize("omit", ["[10]", "[-1]", "[3,3]", "[5,3]", "[0,1,2,3,4,5,6,7,8,9]"])
def test_classes_that_cannot_be_omitted(digits, omit):
    with pytest.raises(Exception, match="omit=.*must be classes from 0 to 9"):
        Job(digits(f"omit={omit}"))


def test_accuracy_of_each_class():
    logits, labels = torch.eye(4)[[0, 0, 1, 2, 2, 3]], torch.tensor([0, 1, 1, 2, 2, 0])
    assert class_accuracies(logits, labels) == {"0": 50.0, "1": 50.0, "2": 100.0}


def test_a_run_without_a_class_and_a_folder_as_teacher(run, tmp_path):
    """The teacher is a run with settings of its own; a file and its folder are the same teacher."""
    run("distill=none", "student=wrn16_1", "epochs=3", "dataset.padding=2", check=0)
    (teacher,) = tmp_path.glob("outputs/digits/wrn16_1/none/*/seed1")
    words = ("-m", "distill=none,kd", "omit=[3],[]", f"teacher_checkpoint='{teacher}'")
    done = run(*words, check=0)
    results = [json.loads(file.read_text()) for file in tmp_path.glob("outputs/digits/*resnet8/*/*/seed1/result.json")]
    assert "4 of 4 done" in done.stderr and "No student had training images of class 3." in " ".join(
        done.stdout.split()
    )
    accuracies = [one["class_acc"] for one in results if "class_acc" in one]
    assert len(results) == 4 and len(accuracies) == 2 and all(one["3"] < 50 for one in accuracies)
    taught = [one["teacher_checkpoint_sha256"] for one in results if one["distill"] == "kd"]
    assert set(taught) == {naming.file_sha256(teacher / "student.pt")}
    again = run(*words[:-1], f"teacher_checkpoint='{teacher}/student.pt'", check=0)
    assert "4 done before, 0 to run" in again.stderr
    missing = run("distill=kd", f"teacher_checkpoint='{tmp_path}'", check=1)
    assert missing.stderr == f"teacher_checkpoint={tmp_path}/student.pt: No such file or directory\n"


def test_errors_are_counted_and_fewer_are_better(tmp_path):
    rng, folders = np.random.default_rng(0), []
    for name, wrongs in (("none", (31, 33, 32)), ("kd", (13, 14, 15))):
        for seed, wrong in enumerate(wrongs, start=1):
            right = np.arange(200) >= wrong
            folders.append(record(tmp_path, name, seed, acc=100 * right.mean()))
            predicted(folders[-1], rng.permutation(right), kept=seed > 1)
    record(tmp_path, "sp", 1, acc=50.0)  # without predictions
    table = summarize(load(tmp_path), "errors")
    (rows,) = blocks(table)
    assert rows["mean"].tolist()[:2] == [32, 14] and rows.gain[1] == -18
    assert heading(rows).endswith("test errors, last epoch") and display(rows)["mean"].tolist() == ["32.0", "14.0", ""]
    text = " ".join(sentences(rows))
    assert "Better than none: KD." in text and "errors here (power 80 %)" in text


def test_the_steps_of_a_sweep_come_one_after_the_other(run):
    """The first is done before the second is composed; what is typed holds in both."""
    steps = "hydra.sweeper.steps=[{distill:none},{distill:kd,seed:'1,2'}]"
    done = run("-m", steps, "epochs=1", check=0)
    one, two = done.stderr.split("step 2 of 2\n")
    assert one.startswith("step 1 of 2\n") and "done    resnet8 none seed 1" in one
    assert "plan    2 runs: 0 done before, 2 to run" in two and done.stderr.count("1 epoch ·") == 2


@pytest.mark.parametrize(
    "file", [file for file in SWEEPS.glob("*.yaml") if "steps:" in file.read_text()], ids=lambda file: file.stem
)
def test_a_step_uses_only_what_earlier_ones_train(hydra, tmp_path, file):
    """A run's folder that a sweep names is the folder of a run in one of its earlier steps."""
    axes, made = OmegaConf.to_container(OmegaConf.load(file)), set()
    for step in axes.pop("steps"):
        words = [f"{key}={value}" for key, value in _params(axes | step).items()]
        (jobs,) = KdexpSweeper.split_arguments(OverridesParser.create().parse_overrides(words), None)
        configs = [hydra(*without_pair(job), f"paths.outputs={tmp_path}") for job in jobs if "seed=1" in job]
        assert {config["teacher_checkpoint"] for config in configs} <= {None, *made}
        made |= {str(naming.folder(one)) for one in configs if not one["teacher_checkpoint"]}
