"""analysis/bias_shift.py: the amount is the best one, and the rows are those of the runs."""

import io
import subprocess
import sys

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

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
