"""The records behind published tables: what their page and README show is what summarize.py makes of them."""

import json
import re

import pandas as pd
import pytest

from kdexp import ROOT
from kdexp.command import summarize
from kdexp.storage import seal

PAGES = (ROOT / "analysis" / "results").glob("*/README.md")
FOLDERS = sorted(file.parent for file in PAGES if any(file.parent.rglob("result.json")))
RUNS = sorted(file.parent for folder in FOLDERS for file in folder.rglob("result.json"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_readme_shows_what_the_records_say(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    summarize.main([str(folder.relative_to(ROOT)), "--out", str(tmp_path)])
    printed = capsys.readouterr()
    assert "left out" not in printed.err
    table = "\n".join(line.rstrip() for line in printed.out.strip().splitlines())
    assert f"```\n{table}\n```" in (folder / "README.md").read_text(encoding="utf-8")
    if folder.name == "cpu-cifar100":  # README shows the table and its first sentences
        shown = re.search(r"```\n(cifar100 .*?)\n```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)[1]
        assert table.startswith(shown) and len(shown.splitlines()) > 12


def test_all_of_them_in_one_table(tmp_path):
    """In some pairs the teacher's accuracy differs from row to row."""
    summarize.main([*map(str, FOLDERS), "--out", str(tmp_path)])
    head = (tmp_path / "summary.md").read_text(encoding="utf-8").splitlines()[0]
    assert [name.strip() for name in head.split("|") if "teacher" in name] == ["teacher", "teacher, %"]


def test_a_grid_needs_teachers(tmp_path):
    (alone,) = (str(folder) for folder in FOLDERS if folder.name == "cifar10-resnet8")
    with pytest.raises(SystemExit, match="--by student: none of these runs has a teacher"):
        summarize.main([alone, "--by", "student", "--out", str(tmp_path)])


@pytest.mark.parametrize("run", RUNS, ids=lambda run: "-".join(run.relative_to(ROOT / "analysis" / "results").parts))
def test_a_record_is_whole(run):
    result, rows = json.loads((run / "result.json").read_text()), pd.read_csv(run / "epochs.csv")
    assert seal.damaged(run) == []
    assert len(rows) == result["epochs"] and rows.test_acc.iloc[-1] == result["test_acc"]
    assert not list(run.glob("*.pt"))
