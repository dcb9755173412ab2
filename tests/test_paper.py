"""The table of a paper, what is said over its pairs, and its figures, from records made by hand."""

import os
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic import record
from test_table import command

from kdexp.report.comparing import across, paper
from kdexp.report.comparing.table import summarize
from kdexp.report.drawing import figures
from kdexp.report.drawing.literature import gains_against
from kdexp.report.page import report
from kdexp.report.reading import published, records
from kdexp.report.showing import beside, overall, paper_files
from kdexp.report.showing import paper as shown

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
    assert re.match(
        r"SP has the highest mean gain over none: \+1\.\d\d points over 4 pairs\. This is not significant\.", answer
    )
    assert "their smallest two-sided p is 2/2^4 = 0.125. Comparing 4 methods with none takes 8 pairs." in reasons[0]
    assert re.search(r"with a probability of (0\.9\d|1\.00)", reasons[1]) and "Behind it on every pair" in reasons[2]
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
    assert "One run each" in " ".join(shown.notes(page)) and "No comparison across pairs" in overall.sentences(page)[0]
    shutil.rmtree(tmp_path / "cifar100/wrn16_4-resnet20")
    done = command(tmp_path, "--layout", "paper")
    assert done.returncode == 1 and "there is no pair" in done.stderr


def test_figures_over_pairs(pages):
    found = figures.of_pairs(pages)
    assert list(found) == ["matrix", "over_pairs", "heat_map"]
    (axes,) = found["matrix"].axes
    labels = [text.get_text().split("\n") for text in axes.get_yticklabels()]
    order = overall.sorted_by_gain(pages)
    assert [name for name, _ in labels] == order and order.index("SP") < order.index("KD") < order.index("none")
    duels = across.every_two(paper.means(pages), "none").set_index(["first", "second"])
    cells = {(round(text.get_position()[1]), round(text.get_position()[0])): text.get_text() for text in axes.texts}
    sp, kd = order.index("SP"), order.index("KD")
    assert (
        cells[sp, kd] == f"{-duels.difference['KD', 'SP']:+.2f}\n4-0-0\np=0.750"
        and cells[kd, sp].split("\n")[1] == "0-0-4"
    )
    (axes,) = found["over_pairs"].axes
    assert [text.get_text() for text in axes.get_yticklabels()] == [name for name in order if name != "none"]
    interval = next(line for line in axes.get_lines() if line.get_label() == "KD").get_xdata()
    row = duels.loc["none", "KD"]
    assert interval == pytest.approx([-row.high, -row.low]) and axes.get_xlabel().startswith("gain over none, points")
    axes = found["heat_map"].axes[0]
    texts = [text.get_text() for text in axes.texts]
    assert len(texts) == 16 and texts.count("×") == 3  # AT's failed cell, OD's two


def test_the_page_begins_with_all_pairs(pages, outputs, tmp_path):
    runs, left_out = records.read(outputs)
    table, rows = summarize(runs), records.epochs(runs)
    drawn = figures.draw(table, runs, rows, papers=[pages])
    text = report.write(tmp_path / "r.html", table, runs, rows, drawn, left_out, papers=[pages]).read_text()
    first, rest = text.split("<h2>Pair by pair</h2>")
    assert "<h1>Which method wins over all pairs, and can it be believed?</h1>" in first
    assert 'class="answer">SP has the highest mean gain over none' in first and "2/2^4 = 0.125" in first
    assert first.count("<img") == 3 and rest.count('alt="matrix') == 0
    assert "wrn16_4 (77.00)<br>resnet20" in first
    alone = report.write(tmp_path / "r.html", table, runs, rows, figures.Drawn({}, {}), left_out).read_text()
    assert "Pair by pair" not in alone and "Which method won, by how much" in alone


def test_gains_against_the_literature(tmp_path):
    """Two pairs of RepDistiller's table; ours gain half a point more than theirs in one, a tenth less in the other."""
    theirs = {("resnet56", "resnet20"): (69.06, 70.66, 0.5), ("wrn40_2", "wrn16_2"): (73.26, 74.92, -0.1)}
    for (teacher, student), (none, kd, more) in theirs.items():
        for seed, noise in ((1, -0.1), (2, 0.0), (3, 0.1)):
            record(tmp_path, "none", seed, none + 1 + noise, student=student)
            record(tmp_path, "kd", seed, kd + 1 + more - noise, teacher=teacher, student=student)
    table = summarize(records.load(tmp_path))
    found = beside.print_beside(table)
    apart = beside.distances(found).set_index(["method", "source"]).loc["KD", "RepDistiller README"]
    assert apart.pairs == 2 and apart.distance == pytest.approx(0.3) and apart.difference == pytest.approx(0.2)
    assert apart.same_recipe
    axes = gains_against(found).axes[0]
    points = {(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.get_lines() if len(line.get_xdata()) == 1}
    expected = [(kd - none, kd - none + more) for none, kd, more in theirs.values()]
    for x, y in expected:
        assert any(point == pytest.approx((x, y)) for point in points)
    assert axes.get_xlabel().startswith("published gain") and gains_against(found[found.gain.isna()]) is None
    done = command(tmp_path, "--against", "published")
    assert done.returncode == 0 and re.search(r"KD +2 +0\.30 +\+0\.20 +the same +RepDistiller README", done.stdout)
    assert len(pd.read_csv(tmp_path / "summary_published_gains.csv")) == len(beside.distances(found))


def test_a_published_table_goes_through_the_same_code():
    """RepDistiller's thirteen pairs: numbers as published, and one of them by another way."""
    (page,) = paper.papers(summarize(published.as_runs("RepDistiller README")))
    gained, found = paper.gains(page), across.against(paper.every_two_of(page), "none").set_index("first")
    assert gained.shape == (13, 13) and list(page.groupby("pair").family.first()) == ["same"] * 7 + ["cross"] * 6
    names = paper.names(page)
    assert gained.loc["CRD", names.index("resnet56 -> resnet20")] == pytest.approx(71.16 - 69.06)
    assert overall.leader(page) == "CRD" and gained.loc["FSP"].notna().sum() == 6
    theirs = stats.wilcoxon(gained.loc["RKD"].round(9), method="exact").pvalue
    assert found.p["RKD"] == pytest.approx(theirs)
    assert set(found.index[found.holm < 0.05]) == {"CRD", "KD", "PKT", "SP", "VID"}  # the claims that survive
    with pytest.raises(ValueError, match="There are: "):
        published.as_runs("nobody")
