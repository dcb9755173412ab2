"""The benchmark runs and says what it measured. How fast it was is no test."""

import csv
import subprocess
import sys

import pytest

from kdexp import ROOT


@pytest.mark.slow
def test_benchmark_writes_both_sides(tmp_path):
    small = ("teacher=wrn16_1", "student=resnet8", "batch_size=8", f"paths.data={tmp_path}", "device=cpu")
    options = ("--quick", "--methods", "none,nst,kd", "--seeds", "2", "--out", "out.csv")
    done = subprocess.run(
        [sys.executable, ROOT / "analysis/benchmark.py", *options, *small], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert "wrn16_1 -> resnet8, batch 8, random images" in done.stdout
    rows = list(csv.DictReader(open(tmp_path / "out.csv")))
    assert [row["question"] for row in rows] == ["one run: KD", "one seed: 3 methods", "2 seeds at a time: 3 methods"]
    for row in rows:
        median, low, high = (float(row[key]) for key in ("textbook", "textbook_min", "textbook_max"))
        assert 0 < low <= median <= high and float(row["factor"]) == median / float(row["ours"])


@pytest.mark.slow
def test_growth_is_a_table():
    """Of the same commands over few records, which kdexp reads as its own."""
    command = [sys.executable, ROOT / "analysis/benchmark.py", "--growth", "50,100"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    head, line, *rows = done.stdout.splitlines()
    assert "50 runs: s of CPU" in head and "100 runs: MB" in head and set(line) <= {*"|:-"} and len(rows) == 4
    assert all(float(cell) > 0 for row in rows for cell in row.split("|")[2:-1])
