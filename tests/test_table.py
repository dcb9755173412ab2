"""From records made by hand to the table: which runs count, what is averaged, what is claimed, and in which forms."""

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from synthetic import record

from kdexp import ROOT
from kdexp.command import summarize
from kdexp.report.comparing.table import summarize as tabulate
from kdexp.report.reading import records
from kdexp.report.showing import findings, formats, labels, output

SEEDS = (1, 2, 3)


def _printed(table, runs):
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        output.print_table(table, runs)
    return text.getvalue()


def write(outputs, **methods):
    """write(outputs, kd=[70.1, 70.2]): a run for each accuracy, seeds from 1."""
    return {
        name: [record(outputs, name, seed, acc) for seed, acc in enumerate(accuracies, 1)]
        for name, accuracies in methods.items()
    }


def command(*arguments, **popen):
    line = [sys.executable, str(ROOT / "analysis/summarize.py"), *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, timeout=120, **popen)


def row(table, name, **where):
    found = table[table.distill == name]
    for key, value in where.items():
        found = found[found[key] == value]
    (index,) = found.index
    return found.loc[index]


def test_means_gains_and_order(tmp_path):
    write(tmp_path, sp=[71, 72, 73], none=[70, 70.5, 71.2], zz=[70, 71, 70], od=[69, 69, 70], kd=[72, 72.5, 73])
    table = tabulate(records.load(tmp_path))
    assert list(table.distill) == ["none", "kd", "sp", "od", "zz"] and list(table.columns[:7]) == [
        "dataset",
        "teacher",
        "student",
        "distill",
        "n",
        "mean",
        "std",
    ]
    kd = row(table, "kd")
    assert (kd.n, kd["mean"], kd["std"]) == (3, pytest.approx(72.5), pytest.approx(np.std([72, 72.5, 73], ddof=1)))
    assert kd.gain == pytest.approx(72.5 - np.mean([70, 70.5, 71.2])) and kd.baseline == pytest.approx(
        np.mean([70, 70.5, 71.2])
    )
    assert row(table, "sp").over_kd == pytest.approx(-0.5) and np.isnan(kd.over_kd)
    assert kd.teacher == "wrn16_4" and row(table, "none").teacher == "" and kd.teacher_acc == 77


CELL = st.sampled_from([70.0, 70.1, 70.4, 71.3, 72.2, None, "nan", "failed", "diverged", "running", "half"])


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(CELL, min_size=1, max_size=4), min_size=1, max_size=4))
def test_any_records_against_least_squares(tmp_path, cells):
    """none always has three runs; methods have any mix of accuracies, failures, half-written and missing runs."""
    shutil.rmtree(tmp_path / "o", ignore_errors=True)
    cells = {name: line for name, line in zip(("kd", "fn", "at", "sp"), cells)} | {"none": [69.0, 69.4, 69.1]}
    values, states = {}, {}
    for name, line in cells.items():
        for seed, cell in enumerate(line, 1):
            if cell is None:
                continue
            done = isinstance(cell, float) or cell in ("nan", "half")
            acc, status = (cell if isinstance(cell, float) else None), "done" if done else cell
            folder = record(tmp_path / "o", name, seed, acc, status, state={"heartbeat": time.time()})
            if cell == "half":
                (folder / "result.json").unlink()
                continue
            states.setdefault(name, {})[seed] = cell
            if isinstance(cell, float):
                values[name, seed] = cell
    runs, left_out = records.read(tmp_path / "o")
    assert len(left_out) == sum(cell == "half" for line in cells.values() for cell in line)
    table = tabulate(runs)
    wanted = sorted({seed for name, line in states.items() if name != "none" for seed in line}) or [1, 2, 3]
    for name in states:
        mine = row(table, name)
        there = [
            values[name, seed]
            for seed in (wanted if set(wanted) & {1, 2, 3} or name != "none" else [1, 2, 3])
            if (name, seed) in values
        ]
        assert mine.n == len(there)
        assert mine["mean"] == pytest.approx(np.mean(there) if there else np.nan, nan_ok=True)
        assert mine["std"] == pytest.approx(np.std(there, ddof=1) if len(there) > 1 else np.nan, nan_ok=True)
        if name != "none":
            assert mine.ranked == all((name, seed) in values for seed in wanted)
            for state in ("failed", "diverged", "running"):
                count = sum(states[name].get(seed) == state for seed in wanted)
                assert (f"{count} {state}" in mine.state) == (count > 0)
            if not mine.ranked:
                assert np.isnan(mine.p) and np.isnan(mine.low) and not mine.best
    plain = {key: value for key, value in values.items() if key[1] in wanted}
    names = sorted({name for name, _ in plain})
    seeds = sorted({seed for _, seed in plain})
    design = np.array(
        [[*(name == one for one in names), *(seed == one for one in seeds)] for name, seed in plain], float
    )
    for name in names:
        mine = row(table, name)
        if (
            name != "none"
            and "none" in names
            and {s for n, s in plain if n == name} & {s for n, s in plain if n == "none"}
            and not table.apart.any()
            and not mine.wide
        ):
            solution = np.linalg.lstsq(design, np.array(list(plain.values())), rcond=None)[0]
            level = row(table, "none").baseline - row(table, "none")["mean"]  # what seeds add that only none has
            assert row(table, "none").more or level == 0 or np.isnan(level)
            expected = solution[names.index(name)] - solution[names.index("none")] - np.nan_to_num(level)
            assert mine.gain == pytest.approx(expected, abs=1e-8)
    for text in (formats.markdown(table), formats.latex(table), formats.to_json(table)):
        assert "Traceback" not in text


def test_incomplete_rows_are_neither_ranked_nor_bold(tmp_path):
    write(tmp_path, none=[70, 70.4, 70.1], kd=[71, 71.4, 71.2])
    record(tmp_path, "sp", 1, 90.0), record(tmp_path, "sp", 2, None, "diverged", state={"error": "loss not finite"})
    record(tmp_path, "od", 1, 80.0), record(tmp_path, "od", 2, 80.0), record(tmp_path, "od", 3, None, "failed")
    runs = records.load(tmp_path)
    table = tabulate(runs)
    assert row(table, "sp").state == "1 of 3 (1 diverged, 1 missing)" and row(table, "od").state == "2 of 3 (1 failed)"
    assert list(table[table.best].distill) == ["kd"] if table.best.any() else True
    for name in ("sp", "od"):
        assert not row(table, name).ranked and not row(table, name).best and np.isnan(row(table, name).p)
    assert "**SP**" not in formats.markdown(table) and "\\textbf{SP}" not in formats.latex(table)
    (rows,) = labels.pairs(table)
    assert (
        "Seeds are missing: python run.py -m distill=sp dataset=cifar100 teacher=wrn16_4 student=resnet20 seed=3"
        in findings.commands(rows)
    )
    assert "Not ranked: SP 1 of 3 (1 diverged, 1 missing), OD 2 of 3 (1 failed)." in findings.sentences(rows)
    (screen,) = [line for line in _printed(table, runs).splitlines() if line.startswith("SP")]
    assert "1 of 3 (1 diverged, 1 missing)" in screen and "…" not in screen  # wide, and whole


def test_one_seed_claims_nothing(tmp_path):
    write(tmp_path, none=[70], kd=[80])
    table = tabulate(records.load(tmp_path))
    assert not table.best.any() and table.p.isna().all() and row(table, "kd").gain == pytest.approx(10)
    (rows,) = labels.pairs(table)
    assert findings.sentences(rows) == ["One seed: nothing can be claimed about differences. Run at least three."]


def test_what_differs_becomes_a_column_and_is_not_averaged(tmp_path):
    for seed in SEEDS:
        record(tmp_path, "none", seed, 70 + seed / 10)
        (
            record(tmp_path, "kd", seed, 71 + seed / 10, weight=0.5),
            record(tmp_path, "kd", seed, 72 - seed / 10, weight=10),
        )
        record(tmp_path, "sp", seed, 70.5, precision="fp32")  # asked for, and what auto resolved to
        record(tmp_path, "at", seed, 69.0, result={"device": "cuda:0 NVIDIA H200", "precision": "bf16"})
    table = tabulate(records.load(tmp_path))
    assert row(table, "kd", **{"distill.weight": 0.5})["mean"] == pytest.approx(71.2)
    assert row(table, "kd", **{"distill.weight": 10})["mean"] == pytest.approx(71.8)
    assert row(table, "sp").gain == pytest.approx(0.3) and row(table, "sp").device == "cpu"
    assert np.isnan(row(table, "at").gain) and row(table, "at").device == "cuda"  # its baseline ran elsewhere
    assert "recipe" not in table and "optimizer.lr" not in table  # equal everywhere
    shown = [list(output.display(rows).columns) for rows in labels.pairs(table)]
    assert sorted("distill.weight" in columns for columns in shown) == [False, True]


def test_a_new_key_at_its_default_splits_nothing(tmp_path):
    old, *_ = write(tmp_path, none=[70, 70.2, 70.1], kd=[71, 71.2, 71.3])["kd"]
    config = yaml.safe_load((old / "config.yaml").read_text())
    del config["distill"]["kd_temperature"], config["optimizer"]["_target_"], config["tag"]
    (old / "config.yaml").write_text(yaml.safe_dump(config))
    other = tmp_path / "cifar100/wrn16_4-resnet20/kd/base/seed2/config.yaml"
    other.write_text(
        other.read_text().replace("weight: 1.0", "weight: 1").replace("outputs: outputs", "outputs: /elsewhere")
    )
    table = tabulate(records.load(tmp_path))
    assert row(table, "kd").n == 3
    other.write_text(other.read_text().replace("tag: ''", "tag: again"))
    assert sorted(tabulate(records.load(tmp_path)).query("distill == 'kd'").n) == [1, 2]


def test_settings_blocks_are_the_whole_file(tmp_path):
    folder = record(tmp_path)
    text = (folder / "config.yaml").read_text()
    assert records.parse_config(text)[0] == yaml.safe_load(text)


def test_two_folders_are_merged_and_a_run_counts_once(tmp_path, capsys):
    write(tmp_path / "a", none=[70, 70.2], kd=[71, 71.4])
    write(tmp_path / "b", kd=[71])
    record(tmp_path / "b", "kd", 3, 71.5), record(tmp_path / "b", "none", 3, 70.3)
    record(tmp_path / "b", "none", 2, None, "failed")  # done on the other machine
    runs, left_out = records.read(tmp_path / "a", tmp_path / "b", tmp_path / "a/cifar100")
    assert len(runs) == 6 and not left_out and set(runs.status) == {"done"}
    record(tmp_path / "b", "kd", 1, 60.0)
    runs, (line,) = records.read(tmp_path / "a", tmp_path / "b")
    assert row(tabulate(runs), "kd").n == 3 and "60.00" in line and "which counts" in line


def test_damaged_records_are_named_and_left_out(tmp_path, capsys):
    kd = write(tmp_path, none=[70, 70.2, 70.4], kd=[71, 71.1, 71.2, 71.3, 71.4, 71.5, 71.6, 71.7])["kd"]
    (kd[3] / "result.json").write_text('{"dataset": "cifar')
    (kd[4] / "result.json").write_text("[]")
    (kd[5] / "status.json").write_bytes(b"\xff\xfe\x00")
    (kd[6] / "config.yaml").write_text("a: [1, 2")
    (kd[7] / "result.json").write_text((kd[0] / "result.json").read_text())  # of another seed
    runs = records.load(tmp_path)
    told = capsys.readouterr().err
    assert (
        all(f"left out: {folder} is not a complete record" in told for folder in kd[3:]) and told.count("left out") == 5
    )
    assert row(tabulate(runs), "kd").n == 3
    (kd[0] / "epochs.csv").write_text("epoch,test_acc\n1,2,3\n")
    long = records.epochs(runs)
    assert (
        str(kd[0]) in capsys.readouterr().err
        and len(long) == 5 * 3
        and set(long.columns) >= {"run", "epoch", "test_acc", "seconds"}
    )
    assert long[long.run == runs.index[runs.folder == str(kd[1])][0]].test_acc.iloc[-1] == pytest.approx(
        71.1 * 0.875, abs=1e-3
    )


def test_published_records_without_a_status_are_done(tmp_path):
    for folder in write(tmp_path, kd=[71, 72])["kd"]:
        (folder / "status.json").unlink()
    assert set(records.load(tmp_path).status) == {"done"}


def test_over_teachers(tmp_path):
    for draw in (1, 2, 3):
        for seed in (1, 2):
            record(tmp_path, "kd", seed, 71 + draw + seed / 10, teacher_seed=draw)
            record(tmp_path, "sp", seed, 72 + draw + seed / 7, teacher_seed=draw)
    for seed in SEEDS:
        record(tmp_path, "none", seed, 70 + seed / 10)
    runs = records.load(tmp_path)
    table = tabulate(runs, over="teacher")
    kd, draws = row(table, "kd"), np.array([72.15, 73.15, 74.15])
    assert (kd.n, kd["mean"], kd["std"]) == (3, pytest.approx(draws.mean()), pytest.approx(draws.std(ddof=1)))
    assert kd.test == "Welch: unpaired" and kd.gain == pytest.approx(draws.mean() - 70.2)
    assert set(tabulate(runs).query("distill == 'kd'")["teacher_seed"]) == {1, 2, 3}
    record(tmp_path, "kd", 2, None, "diverged", teacher_seed=3)
    assert row(tabulate(records.load(tmp_path), over="teacher"), "kd").state == "2 of 3 (1 diverged)"
    (rows,) = labels.pairs(table)
    assert "trainings of wrn16_4" in findings.sentences(rows)[-1]
    alone = labels.pairs(tabulate(runs[runs.teacher_seed == 1]))[0]
    assert "for this one teacher" in findings.sentences(alone)[-1]


@pytest.mark.parametrize(
    "uniform, said",
    [
        (
            70.5,
            "Controls, whose teacher says little or nothing about the image, change accuracy too: UNIFORM 0.50 points.",
        ),
        (69.0, "Controls, whose teacher says little or nothing about the image, gain nothing: UNIFORM -1.00 points."),
    ],
)
def test_what_controls_gain_is_said(tmp_path, uniform, said):
    for seed, luck in ((1, -0.05), (2, 0.02), (3, 0.03)):
        record(tmp_path, "none", seed, 70 + luck)
        record(tmp_path, "kd", seed, 72 + 2 * luck)
        record(tmp_path, "uniform", seed, uniform - luck / 3, more="  control: true\n")
    rows = labels.pairs(tabulate(records.load(tmp_path)))[0]
    assert f"KD gains 2.00 points over none. {said}" in findings.sentences(rows)


def test_settings_too_long_for_a_folder_end_in_the_recipe(tmp_path):
    cut = "augment.cutout=0.5,augment=trivial,dataset.limit=10000,epochs=12,precis-e3f91e24"
    for name in ("none", "kd"):
        record(tmp_path, name, recipe="trivial200", variant=cut)
    (rows,) = labels.pairs(tabulate(records.load(tmp_path)))
    told = "augment.cutout=0.5,augment=trivial,dataset.limit=10000,epochs=12,recipe=trivial200,..."
    assert labels.circumstances(rows) == f"{told}   cpu   fp32"


def test_no_sentence_about_a_wide_row_is_laughable(tmp_path):
    """A row that is far below on every seed and varies wildly is neither "not told apart" nor "may be the best"."""
    write(tmp_path, none=[92.4, 93, 92.6], kd=[93, 93.4, 93.3], fn=[92.9, 93.1, 93.3], sp=[92.2, 92.6, 92.5])
    write(tmp_path, at=[14, 41, 56], od=[90.1, 92, 94.2])
    table = tabulate(records.load(tmp_path))
    (rows,) = labels.pairs(table)
    at, od = row(table, "at"), row(table, "od")
    assert at.test == "Welch: wide" and at.low < 0 < at.high and at.one_way and at.open and not at.best
    assert od.best and not od.open and not od.one_way  # uneven as well, and near enough to be the best
    said = " ".join(findings.sentences(rows))
    assert "Too uneven over seeds for a verdict: AT (55.67 points below none, on every seed)." in said
    assert "AT is far behind, but too uneven over seeds to prove it." in said
    assert not re.search(r"Not significantly different from none:[^.]*AT", said) and not re.search(
        r"AT[^.]* told apart from it", said
    )
    shown = output.display(rows).set_index("method")
    assert shown.loc["AT", "95 % interval"] == "too uneven" and shown.loc["AT", " "] == "?"
    assert "?  far behind the best mean" in output.remarks(rows)[1] and "**AT**" not in formats.markdown(table)
    write(tmp_path, at=[51.3, 50.7, 51.9])  # wide in points, and no wonder so far from the ceiling
    table = tabulate(records.load(tmp_path))
    assert row(table, "at").test == "log odds" and row(table, "at").p < 0.001
    assert "AT varies far more over seeds than the others: compared on the scale of log odds" in " ".join(
        findings.sentences(labels.pairs(table)[0])
    )


def test_the_quickstart_makes_no_fool_of_itself(tmp_path):
    """Its accuracies on one machine. By Welch's t, SP beside OD's 96.80 was "may be the best" and AT not told apart from none."""
    write(tmp_path, none=[93.8, 95, 96.2], kd=[94.4, 96.4, 94.8], fn=[95, 96.4, 96.2], nst=[95.4, 96.6, 95])
    write(tmp_path, at=[58.4, 64.4, 71.2], rkd=[94.2, 96, 95.4], sp=[88.6, 91, 84.6], od=[97.2, 97, 96.2])
    table = tabulate(records.load(tmp_path))
    at, sp = row(table, "at"), row(table, "sp")
    assert at.wide and sp.wide and at.test == sp.test == "log odds"
    assert (
        at.p < 0.005 and sp.p < 0.05 and at.high < -12 and sp.high < 0
    )  # in log odds, the baseline is the noisier one
    assert sorted(table.distill[table.best]) == ["fn", "kd", "nst", "od", "rkd"] and not table.open.any()
    (rows,) = labels.pairs(table)
    assert "Worse: AT and SP." in findings.sentences(rows)[0]


def test_where_less_is_better(tmp_path):
    for seed in SEEDS:
        for name, loss in (("none", 1.2), ("kd", 1.0), ("sp", 1.5)):
            record(
                tmp_path, name, seed, 70.0, result={"test_loss": loss + seed / 100 + (seed == 2) * (name == "sp") / 100}
            )
    table = tabulate(records.load(tmp_path), "test_loss")
    assert list(table[table.best].distill) == ["kd"] and row(table, "kd").gain == pytest.approx(-0.2)
    assert findings.sentences(labels.pairs(table)[0])[0] == "Better than none: KD. Worse: SP."
    with pytest.raises(ValueError, match="no run has this number"):
        tabulate(records.load(tmp_path), "colour")


def test_files(tmp_path):
    write(tmp_path, none=[70, 70.2, 70.1], kd=[71, 71.2, 71.4], sp=[70.4, 71.0, 70.6])
    record(tmp_path, "at", 1, 50.0, label="A|T_%&", note="'a # note'")
    table = tabulate(records.load(tmp_path))
    paths = formats.write(table, tmp_path / "out")
    assert [path.name for path in paths] == ["summary.csv", "summary.md", "summary.tex", "summary.json"]
    back = pd.read_csv(paths[0], keep_default_na=False, na_values={"std": [""], "mean": [""]})
    assert list(back.distill) == list(table.distill) and (back["mean"] == table["mean"]).all()  # to the last digit
    lines = [line for line in paths[1].read_text().splitlines() if line.startswith("|")]
    assert (
        len(lines) == 2 + 4
        and len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1
        and re.match(r"\|[:-]+\|", lines[1])
    )
    content = json.loads(paths[3].read_text())
    assert [one["mean"] for one in content[0]["rows"]] == pytest.approx(list(table["mean"]))
    assert content[0]["notes"] == ["A|T_%&: a # note"] and content[0]["findings"]


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs pdflatex")
def test_latex_compiles(tmp_path):
    write(tmp_path, none=[70, 70.2, 70.1], kd=[71, 71.2, 71.4], sp=[70.4, 71.0, 70.6])
    record(tmp_path, "at", 1, 50.0, label="'A_T \\x ~ ^ $ {é} # %&'", note="'100% <b> --x'")
    text = formats.latex(tabulate(records.load(tmp_path)))
    page = f"\\documentclass{{article}}\\usepackage{{booktabs}}\\begin{{document}}{text}\\end{{document}}"
    (tmp_path / "page.tex").write_text(page)
    done = subprocess.run(["pdflatex", "-halt-on-error", "page.tex"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and (tmp_path / "page.pdf").exists(), done.stdout[-2000:]


def test_the_command(tmp_path):
    write(tmp_path / "o", none=[70, 70.2, 70.1], kd=[71, 71.2, 71.4], sp=[70.4, 71.0, 70.6])
    done = command("o", cwd=tmp_path, env={**os.environ, "NO_COLOR": "1"})
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout and max(len(line.rstrip()) for line in done.stdout.splitlines()) <= 80
    assert re.search(r"KD +71\.20 +0\.20 +3 +\+1\.10", done.stdout) and "Better than none: KD" in done.stdout
    assert (tmp_path / "o/summary.csv").exists()
    done = command("o", "--by", "student", "--out", "elsewhere", cwd=tmp_path)
    assert re.search(r"resnet20 +70\.10 +71\.20\*", done.stdout) and (tmp_path / "elsewhere/summary.tex").exists()
    imports = (
        "import sys; from kdexp.command import summarize; from kdexp.report.drawing import figures; "
        "from kdexp.report.page import report; assert not {'torch', 'hydra'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", imports], cwd=ROOT).returncode == 0


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["nowhere"], "there is no such folder"),
        (["o", "--metric", "colour"], "There are: "),
        (["o", "--metric", "seed"], "There are: "),
        (["o", "--select", "student"], "must be KEY=VALUE"),
        (["o", "--select", "student=vgg"], "There are: resnet20"),
        (["o", "--select", "seed=9"], "--select seed=9: none of these runs has finished"),
        (["o", "--by", "optimizer.lr"], "Choose one of: distill, dataset"),
        (["o", "--over", "moon"], "invalid choice"),
        (["empty"], "python run.py sweep=quickstart"),
        (["o", "--out", "o/cifar100/wrn16_4-resnet20/kd/base/seed1/config.yaml"], "--out DIR"),
    ],
)
def test_mistakes_are_one_message(tmp_path, arguments, told, monkeypatch, capsys):
    write(tmp_path / "o", none=[70, 70.2], kd=[71, 71.2])
    record(tmp_path / "o", "kd", 9, None, "failed")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["summarize.py", *arguments])
    with pytest.raises(SystemExit) as end:
        summarize.main()
    assert end.value.code and told in f"{end.value.code}{capsys.readouterr().err}"


def test_a_narrow_terminal_keeps_the_stars(tmp_path):
    write(tmp_path, none=[70, 70.2, 70.1], kd=[71, 71.2, 71.4], sp=[70.4, 71.0, 70.6])
    heads = []
    for width in ("40", "200"):
        done = command(str(tmp_path), env={**os.environ, "NO_COLOR": "1", "COLUMNS": width})
        heads.append(done.stdout.splitlines()[2:6])
    assert heads[0] == heads[1] and heads[0][2].endswith("*")


def test_select_keeps_the_baselines(tmp_path):
    write(tmp_path, none=[70, 70.2], kd=[71, 71.2], sp=[71, 71.4])
    record(tmp_path, "none", 1, 60.0, student="resnet56")
    runs = records.load(tmp_path)
    assert list(summarize.select(runs, ["distill=KD"]).distill) == ["none", "none", "kd", "kd"]
    assert list(summarize.select(runs, ["teacher=wrn16_4", "distill=sp", "seed=1"]).distill) == ["none", "sp"]
    assert set(summarize.select(runs, ["student=resnet56"]).student) == {"resnet56"}
    assert len(summarize.select(runs, ["optimizer.lr=0.050"])) == len(runs)
    with pytest.raises(ValueError, match="no run has that"):
        summarize.select(runs, ["distill=at"])


def test_the_missing_baseline_is_named_with_its_command(tmp_path):
    for seed in SEEDS:
        record(tmp_path, "kd", seed, 71.0 + seed, lr=0.1, variant="optimizer.lr=0.1")
    (rows,) = labels.pairs(tabulate(records.load(tmp_path)))
    assert findings.commands(rows) == [
        "The baseline is missing: python run.py -m distill=none dataset=cifar100 student=resnet20 seed=1,2,3 optimizer.lr=0.1"
    ]


@pytest.mark.parametrize("changes", [{"student": "resnet26"}, {"variant": "recipe=quick-0123abcd"}])
def test_no_command_is_given_that_could_not_be_typed(tmp_path, changes):
    record(tmp_path, "kd", 1, 71.0, **changes)
    (rows,) = labels.pairs(tabulate(records.load(tmp_path)))
    assert findings.commands(rows) == [
        "The baseline is missing: distill=none seed=1, with what was typed for the rows above"
    ]


def test_ten_thousand_records_would_do(tmp_path):
    """The tenth part, in the tenth of the time a laptop is given (10 s), with room for a busy machine."""
    import time

    for student in range(5):
        for name in ("none", "kd", "fn", "nst", "at", "rkd", "sp", "od"):
            for seed in range(1, 26):
                record(tmp_path, name, seed, 70 + seed / 7 % 1 + student, student=f"resnet{student}")
    tabulate(records.load(tmp_path))  # integrals and imports, once
    start = time.process_time()
    runs = records.load(tmp_path)
    table = tabulate(runs)
    assert time.process_time() - start < 3 and len(runs) == 1000 and len(table) == 40
