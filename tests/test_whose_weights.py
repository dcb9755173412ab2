"""Whose weights taught a student, and what the table says of its teacher."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from synthetic import record

import kdexp
from kdexp.record import runs
from kdexp.record.remove import students_of
from kdexp.report import load, print_table, summarize
from kdexp.report.comparing.agreement import teacher_folder
from kdexp.report.comparing.paper import gains, papers
from kdexp.report.drawing.accuracies import accuracy
from kdexp.report.showing import cautions, findings, formats, labels, output, paper

A, B, C = ("a" * 64, "b" * 64, "c" * 64)


def taught(outputs, name, seed, acc, weights, teacher_acc, **changes):
    origin = {"network": "wrn16_4", "fingerprint": "f" * 16, "sha256": weights, "test_acc": teacher_acc}
    result = {"teachers": [origin], "teacher_test_acc": teacher_acc} | changes.pop("result", {})
    return record(outputs, name, seed, acc, result=result, **changes)


def baseline(outputs, acc=60.0, seeds=(1, 2, 3)):
    for seed in seeds:
        record(outputs, "none", seed, acc + seed / 10)


def heads(outputs):
    return [labels.heading(rows).split("   ")[1] for rows in labels.pairs(summarize(load(outputs)))]


def test_students_of_different_weights_are_in_two_tables(tmp_path):
    baseline(tmp_path)
    for seed in (1, 2, 3):
        taught(tmp_path, "kd", seed, 62 + seed / 10, A, 34.40)
        taught(tmp_path, "sp", seed, 63 + seed / 10, B, 38.80)
    assert heads(tmp_path) == [
        "wrn16_4 (34.40, weights aaaaaaaa) -> resnet20",
        "wrn16_4 (38.80, weights bbbbbbbb) -> resnet20",
    ]
    first, second = labels.pairs(summarize(load(tmp_path)))
    assert list(first.label) == ["none", "KD"] and list(second.label) == ["none", "SP"]
    said = output.paragraph(first)
    assert (
        "These students learned from the weights aaaaaaaa of wrn16_4" in said[1] and "worse than the student" in said[0]
    )
    assert "rerun=changed" in formats.to_json(summarize(load(tmp_path)))


def test_the_same_run_on_two_machines_counts_for_its_own_teacher(tmp_path):
    baseline(tmp_path / "one")
    for place, weights, acc in (("one", A, 70.1), ("two", B, 70.2)):
        taught(tmp_path / place, "kd", 1, 62, weights, acc)
    assert [row.weights for row in load(tmp_path / "one", tmp_path / "two").itertuples() if row.teacher] == [A, B]
    (tmp_path / "three").mkdir()
    taught(tmp_path / "three", "kd", 1, 62, A, 70.1)  # a copy
    assert len(load(tmp_path / "one", tmp_path / "three")) == 4


def test_one_set_of_weights_is_one_table_and_older_records_are_said_to_lack_it(tmp_path):
    baseline(tmp_path)
    for seed in (1, 2, 3):
        taught(tmp_path, "kd", seed, 72 + seed / 10, A, 75.0)
        record(tmp_path, "sp", seed, 73 + seed / 10, result={"teacher_test_acc": 75.0})
    (rows,) = labels.pairs(summarize(load(tmp_path)))
    assert labels.title(rows) == "cifar100   wrn16_4 (75.00) -> resnet20"
    assert (
        output.paragraph(rows)[-1]
        == "Whose weights taught SP is not recorded: their records are from an earlier version."
    )
    assert not cautions.cautions(rows)


@pytest.mark.parametrize(
    "changes, head, column",
    [
        ([{"teacher_seed": 1}, {"teacher_seed": 2}], "wrn16_4 -> resnet20", ["", "9.00", "36.00"]),
        ([{"teacher_seed": 1}], "wrn16_4 (9.00) -> resnet20", None),
    ],
)
def test_a_heading_never_averages_teachers(tmp_path, changes, head, column):
    baseline(tmp_path)
    for some, weights, acc in zip(changes, (A, B), (9.0, 36.0)):
        for seed in (1, 2, 3):
            taught(tmp_path, "kd", seed, 62 + seed / 10, weights, acc, **some)
    (rows,) = labels.pairs(summarize(load(tmp_path)))
    assert heads(tmp_path) == [head]
    shown = output.display(rows)
    assert list(shown.teacher) == column if column else "teacher" not in shown


def test_teachers_that_were_stopped_and_files(run, tmp_path):
    """The commands of a user: teacher_epoch=0,1 and three files."""
    words = ("-m", "distill=none,kd", "seed=1,2", "student=resnet8", "teacher=resnet8")
    done = run(*words, "teacher_epoch=0,1,null", check=0).stdout
    assert "resnet8 -> resnet8" in done or "resnet8 (" in done
    lines = [line.split() for line in done.splitlines() if line.startswith(("method", "KD"))]
    assert lines[0][1:3] == ["teacher_epoch", "teacher"] and len({line[1] for line in lines[1:3]}) == 2
    files = [*tmp_path.glob("outputs/digits/resnet8/none/*/seed*/student.pt")][:3]
    assert len(files) == 3
    named = [tmp_path / f"{name}.pth" for name in ("first", "second", "third")]
    for file, name in zip(files, named):
        name.write_bytes(file.read_bytes())
    done = run(*words, f"teacher_checkpoint={','.join(map(str, named))}", check=0).stdout
    assert all(f"{name.name}" in done for name in named) and "0123456789abcdef" not in done
    assert not any(len(word) == 64 for word in done.split())


def test_a_teacher_worse_than_its_student_comes_first(tmp_path, capsys):
    baseline(tmp_path, 87.60)
    for seed in (1, 2, 3):
        taught(tmp_path, "kd", seed, 88 + seed / 10, A, 60.80)
    table = summarize(load(tmp_path))
    print_table(table, load(tmp_path))
    sentence = "The teacher is worse than the student: wrn16_4 60.80 %, resnet20 trained on the labels alone 87.80 %."
    assert capsys.readouterr().out.splitlines()[2] == sentence
    (rows,) = labels.pairs(table)
    assert output.paragraph(rows)[0] == sentence and sentence in formats.to_json(table)
    meant = pd.DataFrame(rows).assign(method_settings='{"teacher_epoch": 0}')
    assert not cautions.cautions(meant)


def test_teachers_are_found_by_their_weights(tmp_path):
    """Two teachers of one accuracy and one seed: the right one is found, whatever its settings are."""
    one = record(tmp_path, "none", 1, 75.0, student="wrn16_4", result={"student_sha256": A})
    two = record(tmp_path, "none", 1, 75.0, student="wrn16_4", lr=0.01, result={"student_sha256": B})
    student = taught(tmp_path, "kd", 1, 70.0, B, 75.0)
    older = record(tmp_path, "sp", 1, 70.0, result={"teacher_test_acc": 75.0})
    frame = load(tmp_path)
    of = {row.folder: teacher_folder(row, frame) for row in frame.itertuples() if row.teacher}
    assert of == {str(student): str(two), str(older): None}
    found = {run.folder: run for run in runs.find([tmp_path])}
    assert [run.folder for run in students_of(found[two], [*found.values()])] == [student]
    assert students_of(found[one], [*found.values()]) == []


def test_the_frame_for_others_code(tmp_path):
    """From a script in another folder; runs.csv has the same."""
    baseline(tmp_path / "outputs")
    taught(tmp_path / "outputs", "kd", 1, 70.0, A, 75.0)
    script = tmp_path / "script.py"
    script.write_text("import kdexp\nframe = kdexp.runs('outputs')\nprint(*frame.label, *frame.taught_by)\n")
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["none", "none", "none", "KD", A]
    command = [sys.executable, kdexp.ROOT / "analysis/summarize.py", "outputs"]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    written = pd.read_csv(tmp_path / "outputs/runs.csv")
    frame = kdexp.runs(tmp_path / "outputs")
    assert written.test_acc.tolist() == frame.test_acc.tolist()
    undescribed = {
        column
        for column in written
        if f"`{column}`" not in kdexp.runs.__doc__
        and "." not in column
        and f"`{column.partition('.')[0]}" not in kdexp.runs.__doc__
    }
    settings = {
        "augment",
        "optimizer",
        "omit",
        "tag",
        "teacher_epoch",
        "teacher_checkpoint",
        "teacher_normalize",
        "weight_factor",
    }
    assert undescribed <= settings | {"model", "share"}, undescribed - settings


def test_latex_has_no_options_and_no_gaps(tmp_path):
    baseline(tmp_path)
    for seed in (1, 2, 3):
        taught(tmp_path, "kd", seed, 62 + seed / 10, A, 75.0)
    text = formats.latex(summarize(load(tmp_path)))
    assert "--over" not in text and "-{}-" not in text and "   " not in text
    assert r"\caption{cifar100, wrn16\_4 (75.00) $\rightarrow$ resnet20, test accuracy, last epoch, \%}" in text


def test_a_seed_beyond_the_axis_is_named(tmp_path):
    baseline(tmp_path, 60.0, (1, 2, 3, 4))
    record(tmp_path, "none", 5, 20.0)
    for name in ("kd", "sp", "at"):
        for seed in range(1, 6):
            taught(tmp_path, name, seed, 62 + seed / 10, A, 63.0)
    frame = load(tmp_path)
    (rows,) = labels.pairs(summarize(frame))
    label = accuracy(rows, frame).axes[0].get_xlabel()
    assert ("none 20.00" in label) == (np.nanmin(accuracy(rows, frame).axes[0].get_xlim()) > 20)
    assert "seeds beyond the axis: none 20.00" in label


def test_the_page_says_it_first(tmp_path):
    baseline(tmp_path, 87.60)
    for seed in (1, 2, 3):
        taught(tmp_path, "kd", seed, 88 + seed / 10, A, 60.80)
    command = [sys.executable, "analysis/summarize.py", tmp_path, "--html"]
    subprocess.run(command, cwd=kdexp.ROOT, capture_output=True, check=True)
    page = (tmp_path / "report.html").read_text()
    assert '<td class="wide"><strong>The teacher is worse than the student: wrn16_4 60.80 %' in page


def test_a_teacher_s_settings_are_in_the_head_of_its_table(tmp_path):
    baseline(tmp_path)
    for seed in (1, 2, 3):
        taught(tmp_path, "kd", seed, 62 + seed / 10, A, 75.0)
        taught(tmp_path, "sp", seed, 62 + seed / 10, B, 74.0)
        taught(tmp_path, "kd", seed, 63 + seed / 10, C, 73.0, teacher_seed=2)
    record(tmp_path, "none", 1, 74.0, student="wrn16_4", result={"student_sha256": B})
    pairs = labels.pairs(summarize(load(tmp_path)))
    said = {labels.title(rows).partition("weights ")[2][:1]: rows for rows in pairs}
    assert sorted(said) == ["a", "b", "c"]
    assert "teacher_seed=2" in labels.circumstances(said["c"]) and "teacher_seed" not in labels.circumstances(said["a"])
    commands = {name: " ".join(findings.commands(rows)) for name, rows in said.items()}
    assert "rerun=changed" in commands["a"] and "rerun=changed" not in commands["b"]  # the teacher that is there


def test_gains_over_pairs_are_those_of_the_pairs(tmp_path):
    """Also where the baseline has seeds that no method has."""
    for student in ("resnet20", "resnet32"):
        for seed, acc in enumerate([60.1, 60.2, 60.4, 59.0, 59.5, 58.9], 1):
            record(tmp_path, "none", seed, acc, student=student)
        for seed, acc in enumerate([62.3, 62.1, 62.2], 1):
            taught(tmp_path, "kd", seed, acc, A, 75.0, student=student)
    table = summarize(load(tmp_path))
    (page,) = papers(table)
    assert gains(page).loc["KD"].tolist() == pytest.approx(table.gain[table.distill == "kd"].tolist())
    assert any("seeds that only the baseline has" in line for line in paper.notes(page))
