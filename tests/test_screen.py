"""What a log shows of a training, where stderr is no terminal."""

import csv
import re

import numpy as np
import pytest

from kdexp import screen


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(screen.time, "perf_counter", lambda: now[0])
    return now


@pytest.mark.parametrize("seconds", [0.5, 1, 7, 10, 25])
def test_at_most_one_line_every_ten_seconds_and_always_the_last(clock, capsys, seconds):
    bar = screen.Bar("group 1 of 1", epochs=98, steps=3)
    said = []
    for epoch in range(1, 99):
        for _ in range(3):
            clock[0] += seconds / 3
            bar.step()
        bar.epoch(f"epoch {epoch}")
        said += [(epoch, clock[0])] if capsys.readouterr().err else []
    assert said[0][0] == 1 and said[-1][0] == 98
    gaps = [later - earlier for (_, earlier), (_, later) in zip(said, said[1:])]
    assert all(gap > 9.99 for gap in gaps[:-1])  # the last epoch does not wait
    assert all(gap < 10 + seconds + 0.01 for gap in gaps)  # and no epoch that may be said is left out


def test_one_line_has_all_students_and_their_logs_have_every_epoch(run, tmp_path):
    done = run("-m", "distill=none,kd,sp", "epochs=3", "threads=1", check=0)
    lines = re.findall(r"^group 1 of 1 · seed 1   (\d)/3   test %: (.*?)(?:   left .*)?$", done.stderr, re.M)
    assert {"1", "3"} <= {epoch for epoch, _ in lines}
    for epoch, text in lines:
        shown = dict(part.rsplit(" ", 1) for part in text.split(", "))
        assert set(shown) == {"none", "KD", "SP"}
        for name, accuracy in shown.items():
            (path,) = tmp_path.glob(f"outputs/digits/*resnet8/{name.lower()}/*/seed1/epochs.csv")
            rows = list(csv.DictReader(path.open()))
            assert accuracy == f"{float(rows[int(epoch) - 1]['test_acc']):.1f}"
            assert re.findall(r"epoch (\d)   loss", (path.parent / "run.log").read_text()) == ["1", "2", "3"]


def test_things_are_counted_in_english():
    numbers = (0, 1, np.int64(1), 2, 1200)
    assert [screen.counted(one, "run") for one in numbers] == ["0 runs", "1 run", "1 run", "2 runs", "1,200 runs"]
    assert screen.counted(0.5, "GPU") == "0.5 GPUs"
