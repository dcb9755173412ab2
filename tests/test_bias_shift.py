"""analysis/bias_shift.py: the amount is the best one, and the rows are those of the runs."""

import io
import runpy
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from synthetic import predicted, record

from analysis.bias_shift import best_amount, errors_of, shifted
from kdexp import ROOT


@given(some.integers(0, 10**6), some.sampled_from([[3], [0, 1, 2], [0, 1, 2, 4]]))
def test_no_amount_has_fewer_errors(seed, classes):
    """Against trying a thousand of them."""
    draws = torch.Generator().manual_seed(seed)
    logits, labels = torch.randn(60, 5, generator=draws) * 3, torch.randint(5, (60,), generator=draws)
    wrong = lambda amount: errors_of(shifted(logits, classes, amount), labels, classes)["errors"]
    assert wrong(best_amount(logits, labels, classes)) <= min(map(wrong, torch.linspace(-20, 20, 401).tolist()))


def test_by_hand():
    """Between 2 and 5, both images are right: the middle. Shifts the other classes down by as much all the same."""
    logits, labels = torch.tensor([[0.0, 2.0], [0.0, 5.0]]), torch.tensor([0, 1])
    assert best_amount(logits, labels, [0]) == 3.5
    assert shifted(logits, [0], 3.5).tolist() == [0, 1] == shifted(logits, [1], -3.5).tolist()
    assert errors_of(torch.tensor([0, 0]), labels, [1]) == {"errors": 1, "errors_on_omitted": 1}


def test_rows_of_runs(run, tmp_path):
    run("-m", "distill=none,kd", "omit=[3]", "dataset.validation=20", "epochs=4", check=0)
    word = ROOT / "analysis" / "bias_shift.py"
    done = subprocess.run(
        [sys.executable, word, f"{tmp_path}/outputs"], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    rows = pd.read_csv(io.StringIO(done.stdout))
    assert len(rows) == 2 and (rows["test: errors"] <= rows.errors).all() and (rows.test_images == 50).all()
    assert (rows["test: errors"] <= rows["held-out: errors"]).all() and (
        rows.errors_on_omitted <= rows.of_omitted
    ).all()
    empty = subprocess.run(
        [sys.executable, word, ROOT / "analysis/results/cpu-controls"], capture_output=True, text=True
    )
    assert empty.returncode == 1 and "no finished run with omitted classes" in empty.stderr


@pytest.mark.parametrize("labels", [[1, 1, 1], [0, 0, 0]])
def test_when_all_or_none_belong_there(labels):
    logits, labels = torch.tensor([[0.0, 2.0], [0.0, 5.0], [1.0, 0.0]]), torch.tensor(labels)
    amount = best_amount(logits, labels, [0])
    assert errors_of(shifted(logits, [0], amount), labels, [0])["errors"] == 0


def test_the_page_of_hinton2015(tmp_path, capsys):
    """Its table and figure from records with known errors."""
    page = runpy.run_path(str(ROOT / "analysis/results/mnist-hinton2015/page.py"))
    temperatures = (1.0, 2.5, 20.0)
    for student, most in (("mlp800_800", 150), ("mlp30_30", 400)):
        for seed in (1, 2, 3):
            chosen = [("none", most + seed, "")] + [("kd", most - 10 * t + seed, t) for t in temperatures]
            for distill, wrong, t in chosen:
                more = f"  temperature: {t}\n" if t else ""
                words = {"student": student, "dataset": "mnist", "variant": f"T{t}", "more": more}
                folder = record(tmp_path, distill, seed, acc=100 - wrong / 100, teacher="mlp1200_1200", **words)
                predicted(folder, np.arange(10_000) >= wrong)
    predicted(record(tmp_path, "none", 1, acc=99.2, student="mlp1200_1200", dataset="mnist"), np.arange(10_000) >= 80)
    prefixed = [
        f"{prefix}{name}" for prefix in ("", "held-out: ", "test: ") for name in ("errors", "errors_on_omitted")
    ]
    shifts = pd.DataFrame([{"omit": "3", "distill": "kd", **dict.fromkeys(prefixed, 7)}] * 2)
    page["main"]([str(tmp_path)], shifts, tmp_path / "errors.png")
    table = capsys.readouterr().out
    assert (
        "| teacher | 80.0 |  |  | 1 | 67 |" in table
        and "| 800-800, none | 152.0 | 149.5 .. 154.5 | 1.0 | 3 | 146 |" in table
    )
    rows = [line.split(" | ")[0] for line in table.splitlines()]
    assert rows[3:7] == ["| 800-800, none", "| 800-800, T = 1", "| 800-800, T = 2.5", "| 800-800, T = 20"]
    assert "| 30-30, T = 2.5 | 377.0 |" in table and "| without threes | 7.0 | 7.0 .. 7.0 | 0.0 | 2 | 206 |" in table
    assert (tmp_path / "errors.png").stat().st_size > 10_000
