"""The table of a paper, what is said over its pairs, and its figures, from records made by hand."""

import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from synthetic import record
from test_table import command

from analysis.comparing import paper
from analysis.comparing.table import summarize
from analysis.reading import records
from analysis.showing import overall, paper_files
from analysis.showing import paper as shown

PAIRS = [("wrn16_4", "resnet20"), ("wrn40_2", "resnet20"), ("wrn16_4", "resnet32"), ("wrn40_2", "resnet32")]


@pytest.fixture
def outputs(tmp_path):
    """Four pairs across families, none, KD and SP on all of them, AT with a failed seed on one, OD on two alone."""
    random = np.random.default_rng(0)
    for number, (teacher, student) in enumerate(PAIRS):
        methods = {"none": 0.0, "kd": 1.0, "sp": 1.6, "at": 0.2} | ({"od": 3.0} if number < 2 else {})
        for name, gain in methods.items():
            for seed in (1, 2, 3):
                if name == "none" and number in (1, 3):
                    continue  # the baseline of the pair before
                acc = 70 + number % 2 / 10 + gain + random.normal(0, 0.1)
                failed = name == "at" and number == 2 and seed == 3
                record(tmp_path, name, seed, None if failed else acc, "failed" if failed else "done", teacher, student)
    return tmp_path


@pytest.fixture
def pages(outputs):
    (page,) = paper.papers(summarize(records.load(outputs)))
    return page


def test_rows_columns_and_mean_gain(pages):
    (part,) = shown.parts(pages)
    assert sorted((teacher, student) for teacher, _, student in part.heads) == sorted(PAIRS)
    assert [name for name, _, _ in part.rows] == ["none", "KD", "AT", "SP", "OD"]
    rows = {name: (cells, gain) for name, cells, gain in part.rows}
    gained = paper.gains(pages)
    assert rows["KD"][1] == f"{gained.loc['KD'].mean():+.2f}" and rows["none"][1] == ""
    assert rows["AT"][1].endswith("(3 of 4)") and rows["OD"][1].endswith("(2 of 4)")
    there = [text for text, _ in rows["OD"][0] if text != "–"]
    assert len(there) == 2 and all(re.fullmatch(r"7\d\.\d\d ± 0\.\d\d", text) for text in there)
    assert sum(text.endswith("(2)") for text, _ in rows["AT"][0]) == 1
    best = [[name for name, cells, _ in part.rows if cells[column][1] == "*"] for column in range(4)]
    assert sorted(best) == [["OD"], ["OD"], ["SP"], ["SP"]]
    notes = " ".join(shown.notes(pages))
    assert "AT on wrn16_4 -> resnet32 2 of 3 (1 failed)" in notes and "OD (2 of 4)" in notes


def test_what_is_said_over_the_pairs(pages):
    answer, reasons = overall.verdict(pages)
    assert overall.leader(pages) == "SP"  # OD's mean is over two pairs alone
    assert re.match(r"SP has the highest mean gain over none: \+1\.\d\d points over 4 pairs: not proven\.", answer)
    assert "their smallest two-sided p is 2/2^4 = 0.125. 4 methods against none take 8 pairs." in reasons[0]
    assert re.search(r"with a probability of (0\.9\d|1\.00)", reasons[1]) and "Behind it in every pair" in reasons[2]
    said = " ".join(overall.sentences(pages))
    assert "share a teacher or a student" in said and "takes 8 pairs to prove" in said
    text = overall.against_baseline(pages).set_index("method")
    assert text.loc["SP", "w-t-l"] == "4-0-0" and text.loc["OD", "pairs"] == "2" and text.loc["SP", "p"] == "0.125"


def test_files(pages, tmp_path):
    written = paper_files.write([pages], tmp_path / "out")
    names = [path.name for path in written]
    assert names == ["summary_paper.csv", "summary_paper.md", "summary_paper.tex", "summary_pairs.csv"]
    table = pd.read_csv(written[0], index_col="method")
    means = paper.means(pages)
    columns = [f"{name.replace(' ', '')} mean" for name in paper.names(pages)]
    assert table.loc[["none", "KD", "SP"], columns].to_numpy() == pytest.approx(
        means.loc[["none", "KD", "SP"]].to_numpy()
    )
    assert table.mean_gain["SP"] == pytest.approx(paper.gains(pages).loc["SP"].mean()) and table.pairs["OD"] == 2
    lines = [line for line in written[1].read_text().splitlines() if line.startswith("|")]
    assert "wrn16\\_4 (77.00)<br>resnet20" in lines[0] and any("**" in line for line in lines)
    every = pd.read_csv(written[3])
    assert len(every) == 10 and set(every.columns) >= {"first", "second", "difference", "low", "high", "holm", "better"}


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs pdflatex")
def test_latex_compiles(pages, tmp_path):
    text = paper_files.latex(pages.assign(label="A_T & é"))
    page = f"\\documentclass{{article}}\\usepackage{{booktabs}}\\begin{{document}}{text}\\end{{document}}"
    (tmp_path / "page.tex").write_text(page)
    done = subprocess.run(["pdflatex", "-halt-on-error", "page.tex"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert r"\toprule" in text and text.count(r"\textbf") == 4 and "Teacher &" in text


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_screen_breaks_the_table_where_the_terminal_ends(outputs, width):
    import os

    done = command(outputs, "--layout", "paper", env={**os.environ, "NO_COLOR": "1", "COLUMNS": str(width)})
    assert done.returncode == 0, done.stderr
    table = done.stdout.split("\n  *  ")[0]
    pieces = [line for line in table.splitlines() if line.startswith("student")]
    assert sum(line.count("resnet") for line in pieces) == 4 and table.count("mean gain") == 1
    assert len(pieces) == {40: 2, 80: 2, 200: 1}[width] or width == 40
    assert max(len(line.rstrip()) for line in table.splitlines()[3:]) <= width
    assert "SP has the highest mean gain" in done.stdout


def test_two_families_are_two_parts(tmp_path):
    for seed in (1, 2):
        record(tmp_path, "none", seed, 70 + seed)
        record(tmp_path, "kd", seed, 71 + seed)
        folder = record(tmp_path, "kd", seed, 71.5 + seed, teacher="resnet56")
        text = (folder / "config.yaml").read_text().replace("kdexp.models.wrn.WideResNet", "kdexp.models.resnet.ResNet")
        (folder / "config.yaml").write_text(text)
    (page,) = paper.papers(summarize(records.load(tmp_path)))
    first, second = shown.parts(page)
    assert first.heads[0][0] == "resnet56" and second.heads[0][0] == "wrn16_4" and "one family" in first.title


def test_one_run_each_marks_nothing_and_no_pair_is_said(tmp_path):
    record(tmp_path, "none", 1, 70.0), record(tmp_path, "kd", 1, 71.0)
    (page,) = paper.papers(summarize(records.load(tmp_path)))
    assert not any(mark for part in shown.parts(page) for _, cells, _ in part.rows for _, mark in cells)
    assert (
        "One run each" in " ".join(shown.notes(page)) and "Nothing is said across pairs" in overall.sentences(page)[0]
    )
    shutil.rmtree(tmp_path / "cifar100/wrn16_4-resnet20")
    done = command(tmp_path, "--layout", "paper")
    assert done.returncode == 1 and "there is no pair" in done.stderr
