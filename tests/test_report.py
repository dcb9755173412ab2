"""Figures, the page, published numbers and the watch, from records made by hand."""

import base64
import json
import re
import shutil
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from synthetic import record

from kdexp import ROOT
from kdexp.report.comparing.agreement import agreement, agreement_per_class, gain_per_class, labels_of
from kdexp.report.comparing.table import summarize
from kdexp.report.drawing import figures
from kdexp.report.page import report
from kdexp.report.reading import published, records
from kdexp.report.showing import beside, labels, watch

ACCURACY = {
    "none": [70, 70.4, 70.2],
    "kd": [71.2, 71.5, 71.6],
    "fn": [70.9, 71.4, 71.1],
    "sp": [72.0, 72.3, 72.2],
    "at": [40, 41, 42],
}
TAUGHT = {"teachers": [{"sha256": "ab" * 32}]}
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"


@pytest.fixture
def outputs(tmp_path):
    """Five methods, three seeds, a teacher; predictions of which the first 10 % times seed are wrong."""
    folders = {
        (name, seed): record(tmp_path, name, seed, acc, epochs=12, result=TAUGHT if name != "none" else {})
        for name, line in ACCURACY.items()
        for seed, acc in enumerate(line, 1)
    }
    folders["teacher", 1] = record(tmp_path, "none", 1, 77.0, student="wrn16_4", result={"student_sha256": "ab" * 32})
    truth = np.arange(100) % 10
    for (name, seed), folder in folders.items():
        guess = truth.copy()
        wrong = 0 if name == "teacher" else 10 * seed + (20 if name == "none" else 0)
        guess[:wrong] = (guess[:wrong] + 1) % 10
        np.save(folder / "predictions.npy", guess.astype(np.uint8))
    return tmp_path


@pytest.fixture
def drawn(outputs):
    runs = records.load(outputs)
    table = summarize(runs)
    (rows,) = labels.pairs(table)
    return runs, table, rows, records.epochs(runs)


def lines(axes):
    return {line.get_label(): line for line in axes.get_lines()}


def test_accuracy_figure(drawn):
    runs, _, rows, _ = drawn
    (axes,) = figures.accuracy(rows, runs).axes
    assert (
        axes.get_xlabel() == "test accuracy, last epoch, %"
        and "wrn16_4 (77.00) -> resnet20" in axes.get_title("left") + axes.get_title()
    )
    found = lines(axes)
    for name in ("KD", "FN", "SP"):
        assert found[name].get_xdata()[0] == pytest.approx(np.mean(ACCURACY[name.lower()]))
    assert found["teacher 77.00"].get_xdata()[0] == 77 and found["none 70.20"].get_xdata()[0] == pytest.approx(70.2)
    assert found["AT"].get_marker() == "<" and any(text.get_text() == "41.00" for text in axes.texts)
    assert [text.get_text() for text in axes.get_yticklabels()] == [
        f"{row.label}{' *' if row.best else ''}" for row in rows.itertuples()
    ]
    kd = rows[rows.distill == "kd"].iloc[0]
    bars = [
        line.get_xdata() for line in axes.get_lines() if len(line.get_xdata()) == 2 and line.get_label().startswith("_")
    ]
    assert any(bar == pytest.approx([70.2 + kd.low, 70.2 + kd.high]) for bar in bars)


def test_learning_curves(drawn):
    runs, _, rows, epochs = drawn
    whole, late = figures.learning_curves(rows, runs, epochs).axes
    assert whole.get_xlabel() == late.get_xlabel() == "epoch" and whole.get_ylabel() == "test accuracy, %"
    found = lines(whole)
    assert set(found) == {"none", "KD", "FN", "AT", "SP", "teacher 77.00"}
    assert len(found["KD"].get_xdata()) == 12 and found["KD"].get_ydata()[-1] == pytest.approx(
        np.mean(ACCURACY["kd"]), abs=0.05
    )
    assert late.get_xlim()[1] == 12 and 70 < np.mean(late.get_ylim()) < 78  # AT, far off, does not flatten the others
    assert len(whole.collections) == 5
    looks = [
        (line.get_color(), line.get_marker(), str(line.get_linestyle()))
        for name, line in found.items()
        if not name.startswith("teacher")
    ]
    assert len({colour for colour, *_ in looks}) == len({marker for _, marker, _ in looks}) == 5


def test_gains_and_cost(drawn):
    runs, table, rows, _ = drawn
    (axes,) = figures.gains(table).axes
    assert axes.get_ylabel() == "gain over none, points" and [text.get_text() for text in axes.get_xticklabels()] == [
        "KD",
        "FN",
        "AT",
        "SP",
    ]
    points = axes.containers[0].lines[0].get_ydata()
    assert points[0] == pytest.approx(rows.gain[1]) and np.isnan(points[2]) and axes.texts[0].get_text() == "-29.2"
    (axes,) = figures.cost(rows, runs).axes
    assert (
        axes.get_xlabel() == "training time, s"
        and list(lines(axes)["SP"].get_ydata()) == ACCURACY["sp"]
        and "3 runs" in axes.get_title() + axes.get_title("left")
    )
    (axes,) = figures.cost(rows, runs.assign(group_size=8)).axes
    assert axes.get_xlabel() == "training time of the group a run trained in, s"


def test_agreement_and_classes(drawn):
    runs, _, rows, _ = drawn
    mine = figures.labelled(rows, runs)
    everything = pd.concat([mine, runs[runs.student == "wrn16_4"].assign(row="")])
    found = agreement(everything)
    assert sorted(found[found.row == "KD"].agreement) == [70, 80, 90]
    (axes,) = figures.agreement_figure(rows, runs).axes
    assert "same class, %" in axes.get_xlabel() and sorted(lines(axes)["KD"].get_xdata()) == [70, 80, 90]
    classes = agreement_per_class(everything)
    assert classes.shape == (4, 10) and (classes == 80).all().all()
    gained = gain_per_class(mine, np.arange(100) % 10)
    assert gained.shape == (4, 10) and gained.to_numpy() == pytest.approx(20)
    axes, bar = figures.per_class(gained, "gain over none, points", "title").axes
    assert (
        axes.get_xlabel() == "class"
        and bar.get_ylabel() == "gain over none, points"
        and axes.texts[0].get_text() == "+20"
    )
    assert gain_per_class(mine[mine.teacher != ""], np.arange(100)).empty
    assert agreement(mine).empty and figures.agreement_figure(rows, runs[runs.student != "wrn16_4"]) is None
    with pytest.raises(ValueError, match="not one of kdexp.s data sets"):
        labels_of(pd.Series({"dataset": "mine", "dataset._target_": "os.system"}), "data")


def test_a_data_set_that_cannot_be_read_costs_one_figure(drawn, tmp_path):
    runs, table, _, epochs = drawn
    with_data, without = (figures.draw(table, runs, epochs, data) for data in (str(tmp_path), None))
    assert with_data.figures.keys() == without.figures.keys()
    (said,) = with_data.lacking.values()
    assert said[0].startswith("No gains per class: --data")


def test_a_network_trained_on_labels_alone_has_its_learning_curve():
    runs = records.load(ROOT / "analysis/results/cpu-controls/cifar100/wrn16_2")
    epochs = records.epochs(runs)
    found = figures.draw(summarize(runs), runs, epochs)
    (name,), (curve,) = found.figures.keys(), found.figures.values()
    assert name == "curves_cifar100_wrn16_2_0" and curve.axes[0].get_title(loc="left") == "cifar100   wrn16_2"
    assert list(curve.axes[0].lines[0].get_ydata()) == list(epochs.test_acc) and not found.lacking


def test_figures_are_saved_twice(drawn, tmp_path):
    runs, table, _, epochs = drawn
    found = figures.draw(table, runs, epochs).figures
    assert {name.partition("_cifar100")[0] for name in found} == {
        "accuracy",
        "curves",
        "cost",
        "agreement",
        "agreement_per_class",
        "disagreements",
        "gains",
    }
    figures.save({"gains": found["gains"]}, tmp_path / "f")
    assert (tmp_path / "f/gains.png").read_bytes()[:4] == b"\x89PNG" and "<svg" in (
        tmp_path / "f/gains.svg"
    ).read_text()


def page(outputs, **options):
    runs, left_out = records.read(outputs)
    table, epochs = summarize(runs), records.epochs(runs)
    drawn = figures.draw(table, runs, epochs) if options.get("figures", True) else figures.Drawn({}, {})
    return report.write(outputs / "report.html", table, runs, epochs, drawn, left_out)


def test_the_page_is_one_file_that_runs_nothing_of_the_records(outputs):
    record(
        outputs,
        "rkd",
        1,
        71,
        label=f"'{HOSTILE.replace(chr(39), chr(34))}'",
        note=f"'{HOSTILE.replace(chr(39), chr(34))}'",
    )
    failed = record(outputs, "od", 1, None, "failed", state={"error": HOSTILE})
    (failed / "run.log").write_text("\n".join(f"line {number} {HOSTILE}" for number in range(5000)))
    text = page(outputs).read_text()
    assert len(re.findall(r"<script", text)) == 2 and "<img src=x" not in text and 'onerror="' not in text
    assert not re.search(r"(src|href)=\"(?!data:|#)", text) and "default-src 'none'" in text
    assert "line 4999" in text and "line 4900" not in text and "&lt;script&gt;" in text
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.S).group(1))
    assert len(data["runs"]) == 18 and len(data["blocks"]) < 40  # equal parts of configurations are stored once
    one = next(run for run in data["runs"] if run["cells"][3] == "SP" and run["cells"][4] == 2)
    folder = outputs / "cifar100/wrn16_4-resnet20/sp/base/seed2"
    assert "\n".join(data["blocks"][block] for block in one["config"]) == (folder / "config.yaml").read_text().rstrip()
    assert one["curve"][-1] == [12, pytest.approx(72.3, abs=0.1)] and "teacher_test_acc: 77.0" in one["facts"]
    images = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', text)
    assert len(images) >= 4 and all(b"<svg" in base64.b64decode(image) for image in images)
    assert "SP is better than none" in text


@pytest.fixture
def browser():
    webdriver = pytest.importorskip("selenium.webdriver")
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    flags = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-component-update disable-sync"
    for flag in flags.split():
        options.add_argument(f"--{flag}")
    options.add_argument("--window-size=1280,1000")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


def test_the_page_in_a_browser(outputs, browser, tmp_path):
    record(outputs, "od", 1, None, "failed", label=f"'{HOSTILE.replace(chr(39), chr(34))}'", state={"error": HOSTILE})
    browser.get(page(outputs).as_uri())

    def column(table, number):
        return [cell.text for cell in browser.find_elements("css selector", f"{table} tbody tr td:nth-child({number})")]

    assert "owned" not in browser.title and len(column("#runs", 1)) == 17
    heads = browser.find_elements("css selector", "section.pair th button")
    heads[1].click()  # mean, upwards
    assert column("section.pair table", 1)[:2] == ["AT", "none"]
    heads[1].click()
    assert column("section.pair table", 1)[0] == "SP"
    browser.find_element("id", "filter-runs").send_keys("kd resnet20")
    assert column("#runs", 4) == ["KD"] * 3 and "3 of 3 shown" in browser.find_element("id", "count").text
    browser.find_elements("css selector", "#runs th button")[6].click()
    assert column("#runs", 7) == ["71.20", "71.50", "71.60"]
    browser.find_element("css selector", "#runs tr.run").click()
    opened = browser.find_element("css selector", "tr.detail")
    assert "name: kd" in opened.text and opened.find_elements("css selector", "svg polyline")
    assert all(browser.execute_script("return [...document.images].map(i => i.complete && i.naturalWidth > 0)"))
    assert browser.save_screenshot(str(tmp_path / "page.png")) and (tmp_path / "page.png").stat().st_size > 10_000
    assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


def test_two_thousand_runs_stay_usable(tmp_path, browser):
    for student in range(10):
        for name in ("none", "kd", "fn", "nst", "at", "rkd", "sp", "od"):
            for seed in range(1, 26):
                record(tmp_path, name, seed, 70 + seed % 5 / 3 + student, student=f"resnet{student}", epochs=240)
    path = page(tmp_path, figures=False)
    assert path.stat().st_size < 5e6
    start = time.monotonic()
    browser.get(path.as_uri())
    browser.find_element("id", "filter-runs").send_keys("sp resnet7")
    shown = browser.find_elements("css selector", "#runs tr.run")
    assert len(shown) == 25 and time.monotonic() - start < 10
    browser.find_element("id", "filter-pairs").send_keys("resnet3")
    assert len([part for part in browser.find_elements("css selector", "section.pair") if part.is_displayed()]) == 1


def test_published(tmp_path):
    for seed in (1, 2, 3):
        for name, acc in (("none", 69.2), ("kd", 70.9), ("fn", 69.4), ("mine", 75)):
            record(
                tmp_path,
                name,
                seed,
                acc + seed / 10,
                teacher="resnet56",
                label={"fn": "FitNet", "none": "none"}.get(name, name.upper()),
            )
    (rows,) = labels.pairs(summarize(records.load(tmp_path)))
    found = beside.beside(rows)
    assert len(published.load()) == 788
    kd = found[(found.method == "KD") & (found.source == "RepDistiller README")].iloc[0]
    assert (kd.top1, kd.published_gain, kd["mean"], kd.gain) == (
        70.66,
        pytest.approx(70.66 - 69.06),
        pytest.approx(71.1),
        pytest.approx(1.7),
    )
    assert (
        kd.same_recipe and kd.statistic == "last" and not found[found.source == "mdistiller README"].same_recipe.any()
    )
    assert found[(found.method == "FitNet")].top1.tolist()[0] == 69.21 and "MINE" not in set(found.method)
    teacher = found[(found.method == "teacher") & (found.source == "RepDistiller README")].iloc[0]
    assert (teacher.top1, teacher["mean"]) == (72.34, 77) and "none" in set(found.method)
    short = rows.assign(shared_settings=rows.shared_settings.str.replace('"epochs": 240', '"epochs": 2'))
    assert not beside.beside(short).same_recipe.any()  # not the recipe as it stands
    assert beside.beside(rows.assign(dataset="digits")).empty


def test_published_rows():
    rows = published.load()
    words = re.search(r"statistic \((.+?);", " ".join(published.__doc__.split()))[1].split(", ")
    assert words == ["last", "best", "mean", "median"] and set(rows.statistic) <= {*words, ""}
    baselines = rows[rows.method == "none"]
    assert (baselines.teacher == "").all() and (rows[rows.method != "none"].teacher != "").all()
    assert not baselines.duplicated(["source", "dataset", "student"]).any()
    # the same number twice would count twice
    assert not rows.duplicated(["source", "dataset", "teacher", "student", "method", "statistic"]).any()
    assert rows.top1.between(50, 100).all() and (rows.runs.isna() | (rows.runs >= 1)).all()
    further = {"pkt", "cc", "vid", "crd", "ab", "ft", "fsp", "kdsvd", "reviewkd", "dkd", "dist", "ls"}
    assert further <= set(rows.method)
    tables = rows[(rows.source == "RepDistiller README") & (rows.teacher != "")]
    assert tables.groupby(["teacher", "student"]).ngroups == 13 and tables.published_gain.notna().all()
    assert len(tables) == 13 * 13 - 7  # seven pairs have no FSP
    papers = rows[rows.source.str.contains("AT paper|trailmet|SP paper") & (rows.teacher != "")]
    assert papers.published_gain.round(2).tolist() == [0.84, 0.89, 0.61, 0.63]


def test_watch(tmp_path, capsys):
    now = time.time()
    record(tmp_path, "none", 1, 70), record(tmp_path, "kd", 2, None, "diverged", state={"error": "loss not finite"})
    running = record(tmp_path, "kd", 1, 60, "running", state={"heartbeat": now - 5}, epochs=40)
    record(tmp_path, "sp", 1, 60, "running", state={"heartbeat": now - 4000}, epochs=10)
    runs = records.load(tmp_path)
    state = watch.snapshot(runs, records.epochs(runs)).set_index("name")
    kd, sp = state.loc["wrn16_4 -> resnet20 KD seed 1"], state.loc["wrn16_4 -> resnet20 SP seed 1"]
    assert (kd.epoch, kd.epochs, kd.left, kd.status, sp.status) == (40, 240, 400, "running", "stopped")
    assert kd.test_acc == pytest.approx(60)
    console = Console(width=80, record=True, file=open("/dev/null", "w"))
    console.print(watch.render(runs, state.reset_index()))
    text = console.export_text()
    assert "1 done · 1 running · 1 diverged · 1 stopped" in text and re.search(
        r"KD seed 1 +40/240 +60\.00 +6 min", text
    )
    assert "stopped: wrn16_4 -> resnet20 SP seed 1" in text and "loss not finite" in text
    drawings = []

    def sleep(seconds):
        drawings.append(seconds)
        if len(drawings) == 2:
            shutil.rmtree(running)
            record(tmp_path, "kd", 1, 71.5)

    watch.watch([str(tmp_path)], sleep=sleep)  # ends by itself once nothing lives any more
    out = capsys.readouterr().out
    assert len(drawings) == 4 and out.count("1 done") == 1 and "2 done · 1 diverged · 1 stopped" in out


def test_the_command_makes_the_page(outputs):
    line = [
        sys.executable,
        str(ROOT / "analysis/summarize.py"),
        str(outputs),
        "--html",
        "--figures",
        "--against",
        "published",
    ]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str((outputs / "report.html").resolve())
    assert (outputs / "figures/gains.png").exists() and (outputs / "summary_published.csv").exists()
