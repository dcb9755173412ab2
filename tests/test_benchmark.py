"""The benchmark runs and says what it measured. Its speed is not tested."""

import csv
import json
import subprocess
import sys

import pytest

from analysis.timing.blocks import covered
from analysis.timing.device import Report, table
from analysis.timing.ours import Ours, prepared
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
    """The same commands with a few records, which kdexp reads as its own."""
    command = [sys.executable, ROOT / "analysis/benchmark.py", "--growth", "50,100"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    head, line, *rows = done.stdout.splitlines()
    assert "50 runs: s of CPU" in head and "100 runs: MB" in head and set(line) <= {*"|:-"} and len(rows) == 4
    assert all(float(cell) > 0 for row in rows for cell in row.split("|")[2:-1])


@pytest.mark.slow
def test_the_device_report_goes_on_after_an_error_and_has_every_way(tmp_path):
    """On the CPU: what needs CUDA is an error, the rest is measured, and the file has both."""
    small = (
        "teacher=wrn16_1",
        "student=resnet8",
        "batch_size=8",
        f"paths.data={tmp_path}",
        "device=cpu",
        "compile=false",
    )
    options = ("--device", "device.json", "--quick", "--methods", "none,kd", "--minutes", "9")
    done = subprocess.run(
        [sys.executable, ROOT / "analysis/benchmark.py", *options, *small], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    parts = json.loads((tmp_path / "device.json").read_text())
    assert parts["machine"]["pair"] == "wrn16_1 -> resnet8" and parts["ceilings"]["copy_gb_per_s"] > 0
    for subject in ("one run: KD", "one seed: 2 methods"):
        for precision in ("fp32", "bf16"):
            assert parts[f"{subject}, eager {precision}"]["ms"] > 0
            assert "need a CUDA device" in parts[f"{subject}, graph {precision}"]["error"]
    assert "| one run: KD, eager fp32" in done.stdout and "compiled" not in done.stdout


def test_a_part_of_the_report_fails_alone_and_none_starts_late(tmp_path):
    report = Report(tmp_path / "device.json", 10)
    report.part("one a, textbook fp32", lambda: {"ms": 6.0, "least": 5, "most": 7})
    report.part(
        "one a, graph bf16", lambda ms: {"ms": ms, "least": 1, "most": 3, "kernels": 9, "idle_percent": 40.4}, 2.0
    )
    report.part("one a, eager fp32", lambda: 1 / 0)
    report.until = 0
    report.part("one b, eager fp32", lambda: {"ms": 1})
    parts = json.loads((tmp_path / "device.json").read_text())
    assert parts["one a, eager fp32"]["error"] == "ZeroDivisionError: division by zero"
    assert parts["one b, eager fp32"]["error"] == "TimeoutError: no time was left"
    text = " ".join(table(parts).split())
    assert "2.00 (1.00 to 3.00) | 3.0" in text and "| 9 " in text and "| 40 " in text and "division by zero" in text


def test_a_learner_that_fails_is_not_timed(tiny):
    """The others would pass for the whole seed."""
    configs = [tiny(f"distill={name}", "dataset=cifar100", "teacher=wrn16_1") for name in ("none", "kd")]
    data, _, teacher, hardware = prepared(configs)
    side = Ours(configs, data, teacher, hardware)
    side.steps(2)
    side.learners[1].forward = lambda images: 1 / 0
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        side.steps(2)


def test_overlapping_kernels_count_once():
    assert covered([]) == 0 and covered([(1, 3), (2, 4), (2, 3), (6, 7)]) == 4
