"""kdexp.run: what the command line does, from Python."""

import pandas as pd
import pytest
from conftest import TINY

import kdexp
from kdexp.command.notebook import as_typed
from kdexp.errors import UsageError


def test_it_trains_the_same_runs_as_the_command_line(run, tmp_path, capsys):
    words = ("distill=none,kd", "epochs=1", "threads=1")
    printed = run("-m", *words, "seed=1,2", check=0).stdout
    frame = kdexp.run(*TINY, *words, f"paths.outputs={tmp_path}/ours", seed=(1, 2))
    assert capsys.readouterr().out == printed and "KD" in printed
    theirs = kdexp.runs(tmp_path / "outputs").query("student == 'resnet8'")
    same = ["distill", "seed", "variant", "fingerprint", "student_sha256", "test_acc"]
    pd.testing.assert_frame_equal(frame[same], theirs[same].reset_index(drop=True))
    again = kdexp.run(*TINY, *words, f"paths.outputs={tmp_path}/ours", seed=range(1, 3))
    assert list(again.started) == list(frame.started)


def test_a_run_that_fails_is_a_row(tmp_path, capsys):
    frame = kdexp.run(
        *TINY, "distill=kd", "optimizer.lr=1e9", f"paths.outputs={tmp_path}/ours", epochs=1, teacher_epoch=0
    )
    assert list(frame.status) == ["diverged"] and "not finite" in frame.error[0]


def test_a_sweep_by_name_and_its_plan(tmp_path, capsys):
    frame = kdexp.run("sweep=quickstart", f"paths.outputs={tmp_path}/ours", dry_run=True)
    assert frame.empty and "32 runs: 0 done, 32 to run" in capsys.readouterr().out


@pytest.mark.parametrize(
    "word, told",
    [
        ("sweep=quick", "There are: .*quickstart"),
        ("--cfg", "only for the command line"),
        ("distil=kd", "Did you mean distill=kd"),
        ("epochs=0", "epochs=0: must be a number greater than 0"),
    ],
)
def test_mistakes_are_raised(word, told):
    with pytest.raises(UsageError, match=told):
        kdexp.run(*TINY, word, dry_run=True)


def test_values_are_spelled_as_typed():
    assert [as_typed(value) for value in ((1, 2), [3, 4], None, True, "kd", ("at", "sp"), 0.5)] == [
        "1,2",
        "[3,4]",
        "null",
        "true",
        "kd",
        "at,sp",
        "0.5",
    ]
