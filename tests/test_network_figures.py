"""What networks know: bins, disagreements, correlations and attention maps against slow versions; figures; their part of the page."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import softmax
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss
from synthetic import record

import kdexp
from kdexp.distill.at import at_loss
from kdexp.evaluate.measures import calibration
from kdexp.report.comparing.attention import attention_maps, images_of_classes
from kdexp.report.comparing.networks import BINS, correlation, correlations, disagreements, reliability, teachers
from kdexp.report.comparing.table import summarize
from kdexp.report.drawing import figures, network_figures
from kdexp.report.drawing.network_figures import APART, CELL, GAP, mosaic
from kdexp.report.drawing.style import labelled
from kdexp.report.page import report
from kdexp.report.reading import records
from kdexp.report.reading.arrays import logits
from kdexp.report.reading.published import as_runs
from kdexp.report.showing import labels
from kdexp.storage import seal

DRAWS = np.random.default_rng(0)
TRUTH = DRAWS.integers(0, 4, 300)
TEACHER, NONE1, NONE2, KD1, KD2 = (2 * DRAWS.normal(size=(300, 4)) + 2 * np.eye(4)[TRUTH] for _ in range(5))


def keep(folder, z):
    """Add what a run keeps of its logits (N, classes) to a record made by hand."""
    np.save(folder / "logits.npy", z.astype(np.float16))
    np.save(folder / "predictions.npy", z.argmax(1).astype(np.uint8))
    np.save(folder / "right.npy", np.packbits(z.argmax(1) == TRUTH))


@pytest.fixture
def outputs(tmp_path):
    """A teacher, a baseline and KD of two seeds, with logits."""
    accuracy = lambda z: 100 * float((z.argmax(1) == TRUTH).mean())
    for name, seed, z in (("none", 1, NONE1), ("none", 2, NONE2), ("kd", 1, KD1), ("kd", 2, KD2)):
        facts = {"teachers": [{"sha256": "ab" * 32}], "teacher_test_acc": accuracy(TEACHER)} if name == "kd" else {}
        keep(record(tmp_path, name, seed, accuracy(z), result=facts), z)
    weights = {"student_sha256": "ab" * 32}
    keep(record(tmp_path, "none", 1, accuracy(TEACHER), student="wrn16_4", result=weights), TEACHER)
    return tmp_path


def of_pair(outputs, data=None):
    """(runs, the finished runs of the one pair, figures by name without their place, what is lacking)."""
    runs = records.load(outputs)
    table = summarize(runs)
    (rows,) = labels.pairs(table)
    drawn = figures.draw(table, runs, records.epochs(runs), data)
    place = labels.place(rows)
    found = {name.removesuffix(f"_{place}"): figure for name, figure in drawn.figures.items()}
    return runs, labelled(rows, runs), found, drawn.lacking[place]


def test_bins_are_scikit_learns_and_hold_the_calibration_error():
    right = KD1.argmax(1) == TRUTH
    bins = reliability(KD1, right)
    accuracy, confidence = calibration_curve(right, softmax(KD1, axis=1).max(1), n_bins=BINS)
    seen = bins.images > 0
    assert bins.images.sum() == 300 and bins.right[seen] / bins.images[seen] == pytest.approx(accuracy)
    assert bins.confidence[seen] / bins.images[seen] == pytest.approx(confidence)
    found = calibration(torch.from_numpy(KD1), torch.from_numpy(TRUTH))
    assert 100 * np.abs(bins.right - bins.confidence).sum() / 300 == pytest.approx(found["ece"], rel=1e-9)
    assert found["nll"] == pytest.approx(log_loss(TRUTH, softmax(KD1, axis=1)))


def test_the_reliability_diagram_draws_the_images_of_all_seeds(outputs):
    _, _, found, _ = of_pair(outputs)
    parts = {part.get_title("left").partition(":")[0]: part for part in found["reliability"].axes}
    assert list(parts) == ["teacher wrn16_4", "none", "KD"]
    kept = [z.astype(np.float16).astype(float) for z in (KD1, KD2)]
    sure = np.concatenate([softmax(z, axis=1).max(1) for z in kept])
    right = np.concatenate([z.argmax(1) == TRUTH for z in (KD1, KD2)])
    heights = [bar.get_height() for bar in parts["KD"].patches]
    members = [(sure > number / BINS) & (sure <= (number + 1) / BINS) for number in range(BINS)]
    assert heights == pytest.approx([100 * right[some].mean() for some in members if some.any()])


def test_disagreements_slow(outputs):
    runs, mine, found, _ = of_pair(outputs)
    table, theirs = disagreements(mine, runs), TEACHER.argmax(1)
    for row, seeds in (("none", (NONE1, NONE2)), ("KD", (KD1, KD2))):
        for a in range(4):
            for b in range(4):
                count = np.mean([np.sum((theirs == a) & (z.argmax(1) == b)) for z in seeds]) / 300 * 1000
                assert a == b or table[row].get((a, b), 0) == pytest.approx(count)
    assert (np.diff(table.median(axis=1)) <= 0).all() and all(a != b for a, b in table.index)
    axes = found["disagreements"].axes[0]
    assert axes.get_yticklabels()[0].get_text() == "{} → {}".format(*table.index[0])
    assert axes.texts[0].get_text() == f"{table.iloc[0, 0]:.1f}"


def test_correlations_slow(outputs):
    runs, mine, found, _ = of_pair(outputs)

    def pearson(z, i, j):
        x, y = z[:, i] - z[:, i].mean(), z[:, j] - z[:, j].mean()
        return (x * y).sum() / np.sqrt((x**2).sum() * (y**2).sum())

    slow = np.array([[pearson(KD1, i, j) for j in range(4)] for i in range(4)])
    assert correlation(KD1) == pytest.approx(slow) and correlation(7 * KD1 + 3) == pytest.approx(slow)
    half = lambda z: correlation(z.astype(np.float16).astype(float))
    each = [half(z) - half(TEACHER) for z in (KD1, KD2)]
    kd = correlations(mine, runs)["KD"]
    assert kd.difference == pytest.approx(np.mean(each, axis=0))
    assert kd.distance == pytest.approx(np.mean([np.abs(one).mean() for one in each]))
    shown = {part.get_title("left"): part for part in found["correlations"].axes}
    assert np.asarray(shown[f"KD: {kd.distance:.3f}"].images[0].get_array()) == pytest.approx(kd.difference)


def test_a_student_like_its_teacher_is_no_different(outputs):
    for folder in outputs.glob("cifar100/*/kd/base/*"):
        keep(folder, TEACHER)
    runs, mine, _, _ = of_pair(outputs)
    same = correlations(mine, runs)
    assert same["KD"].distance == pytest.approx(0, abs=1e-12) and same["none"].distance > 0.01
    assert disagreements(mine, runs)["KD"].sum() == 0


def test_a_baseline_is_held_against_the_teacher_of_its_seed():
    rows = [("kd", 1, "t", 1), ("kd", 2, "t", 2), ("none", 1, "", None), ("none", 2, "", None), ("none", 3, "", None)]
    mine = pd.DataFrame(rows, columns=["distill", "seed", "teacher", "teacher_seed"])
    mine = mine.assign(student="s", dataset="d", folder="", taught_by=["w1", "w2", "", "", ""])
    own = [
        {"seed": seed, "teacher": "", "student": "t", "folder": f"t{seed}", "student_sha256": f"w{seed}"}
        for seed in (1, 2)
    ]
    runs = pd.concat([mine, pd.DataFrame(own)], ignore_index=True)
    assert teachers(mine, runs) == {0: "t1", 1: "t2", 2: "t1", 3: "t2", 4: "t1"}
    assert teachers(mine[mine.teacher == ""], runs) == {}


def test_what_records_lack_is_said(outputs):
    _, _, found, lacking = of_pair(outputs)
    assert lacking == ["Gains per class and attention maps need the data set: --data DIR."]
    for path in outputs.glob("cifar100/*/kd/base/*/logits.npy"):
        path.unlink()
    _, _, found, lacking = of_pair(outputs)
    assert lacking[0].startswith("Not in the reliability diagrams and correlations") and lacking[0].endswith("): KD.")
    assert [part.get_title("left") for part in found["reliability"].axes] == ["teacher wrn16_4", "none"]
    shutil.rmtree(outputs / "cifar100/wrn16_4")
    _, _, found, lacking = of_pair(outputs)
    assert "There is no record of wrn16_4 itself" in lacking[1]
    assert "disagreements" not in found and "correlations" not in found and "accuracy" in found


def test_logits_that_are_not_as_written_are_left_out(outputs):
    folder = next(outputs.glob("cifar100/*/kd/base/seed1"))
    result = seal.read_json(folder / "result.json")
    for content in (b"", b"\x93NUMPY broken", (folder / "logits.npy").read_bytes()[:-100]):
        (folder / "logits.npy").write_bytes(content)
        assert logits(folder) is None
    for other in (np.zeros(300), np.zeros((300, 4), int), np.full((300, 4), np.nan), np.zeros((0, 4))):
        np.save(folder / "logits.npy", other)
        assert logits(folder) is None
    np.save(folder / "logits.npy", KD1.astype(np.float16))
    assert logits(folder) is not None
    (folder / "result.json").write_text(json.dumps(seal.sealed(result, {"logits.npy": b"another"})))
    assert logits(folder) is None


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    from conftest import Forked

    folder = tmp_path_factory.mktemp("trained")
    Forked(folder, "-m", "distill=none,kd,at", "seed=1", "epochs=1").wait(check=0)
    return folder / "outputs"


def folder_of(outputs, distill, student="resnet8"):
    (path,) = outputs.glob(f"digits/*{student}/{distill}/*/seed1")
    return path


def test_attention_maps_slow_and_as_at_trains_them(trained):
    images = images_of_classes(folder_of(trained, "at"), "", 6)
    student, teacher = (attention_maps(folder_of(trained, *one), images) for one in (("at",), ("none", "wrn16_1")))
    assert list(student) == ["stage1", "stage2", "stage3"] and all(len(one) == 6 for one in student.values())
    network = kdexp.load(folder_of(trained, "at"))
    node = network.config["dataset"]
    mean, std = (torch.tensor(node[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        features = [network(((image / 255 - mean) / std)[None]).features for image in images]
    for stage, found in student.items():
        for number, feature in enumerate(features):
            x = feature[stage][0].double().numpy()
            slow = np.array(
                [[np.mean([channel[i, j] ** 2 for channel in x]) for j in range(x.shape[2])] for i in range(x.shape[1])]
            )
            assert found[number] == pytest.approx(slow / np.sqrt((slow**2).sum()), abs=1e-5)
    theirs = kdexp.load(folder_of(trained, "none", "wrn16_1"))
    pixels = (images / 255 - mean) / std
    with torch.no_grad():
        loss = sum(at_loss(network(pixels).features[stage], theirs(pixels).features[stage]) for stage in student)
    assert sum(np.mean((student[s] - teacher[s]) ** 2) for s in student) == pytest.approx(float(loss), rel=1e-4)


def test_the_images_are_the_first_of_their_classes(trained):
    from kdexp.datasets.digits import digits

    _, test = digits()
    seen, slow = [], []
    for image, label in zip(test.images, test.labels.tolist()):
        if label not in seen and len(seen) < 6:
            seen.append(label)
            slow.append(image)
    assert torch.equal(images_of_classes(folder_of(trained, "kd"), "", 6), torch.stack(slow))


def test_each_map_stands_where_it_belongs():
    images = DRAWS.integers(0, 256, (2, 3, 8, 8), dtype=np.uint8)
    maps = {
        "a": {"stage1": np.eye(8)[None].repeat(2, 0), "stage2": np.ones((2, 1, 1))},
        "b": {"stage2": np.zeros((2, 4, 4))},
    }
    picture, stages = mosaic(images, maps)
    step, group = CELL + GAP, 2 * (CELL + GAP) + APART
    cell = lambda line, stage, number: picture[line * step :, stage * group + number * step :][:CELL, :CELL]
    assert stages == ["stage1", "stage2"] and picture.shape == (3 * step, 2 * group, 3)
    for stage in (0, 1):
        assert np.allclose(cell(0, stage, 1)[::4, ::4], images[1].transpose(1, 2, 0) / 255)
    bright = cell(1, 0, 0).sum(2)
    assert (bright[::4, ::4].argmax(1) == np.arange(8)).all() and bright[0, 0] > bright[0, 31]
    assert (cell(2, 0, 0) == 1).all() and cell(2, 1, 0).max() < 0.05 and cell(1, 1, 0).min() > 0.6


def test_the_page_of_trained_runs(trained, tmp_path):
    runs, left_out = records.read(trained)
    table, epochs = summarize(runs), records.epochs(runs)
    page = lambda data: report.write(
        tmp_path / "r.html", table, runs, epochs, figures.draw(table, runs, epochs, data), left_out
    ).read_text()
    text = page(str(tmp_path))
    names = [name.partition("_digits")[0] for name in re.findall(r'alt="(\w+)', text)]
    assert names[-4:] == ["reliability", "disagreements", "correlations", "attention"] and len(set(names)) == len(names)
    assert len(text) < 700_000 and text.count("<figcaption>") == 4 and "needs" not in text
    part = text.split("<summary>What the networks know</summary>")[1]
    for name, distill, student in (
        ("teacher wrn16_1", "none", "wrn16_1"),
        ("none", "none", "resnet8"),
        ("KD", "kd", "resnet8"),
    ):
        result = seal.read_json(folder_of(trained, distill, student) / "result.json")
        cells = re.findall(r"<td[^>]*>([^<]*)</td>", re.search(rf"<tr><td>{name}</td>(.*?)</tr>", part).group(1))
        assert cells[:3] == [f"{result['ece']:.1f}", f"{result['brier']:.3f}", f"{result['nll']:.3f}"]
        kl, agreement = result.get("kl_teacher"), result.get("agreement")
        assert cells[3] == (f"{kl:.3f}" if distill == "kd" else "") and cells[5] == (f"{agreement:.1f}" if kl else "")
    assert "attention maps need the data set: --data DIR" in page(None)


def test_code_of_records_is_not_run_for_a_picture(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "outputs")
    images = images_of_classes(folder_of(trained, "kd"), "", 6)
    for old, new in (("kdexp.models.resnet.ResNet", "os.system"), ("kdexp.datasets.digits.digits", "os.getcwd")):
        config = folder_of(tmp_path / "outputs", "kd") / "config.yaml"
        config.write_text(config.read_text().replace(old, new))
    for ask in (lambda: attention_maps(config.parent, images), lambda: images_of_classes(config.parent, "", 6)):
        with pytest.raises(ValueError, match="is not part of kdexp; code that a record names is not run"):
            ask()


def test_weights_that_are_gone_cost_their_line(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "outputs")
    (folder_of(tmp_path / "outputs", "at") / "student.pt").unlink()
    _, _, found, lacking = of_pair(tmp_path / "outputs", str(tmp_path))
    (axes,) = found["attention"].axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["image", "teacher wrn16_1", "none", "KD"]
    assert any(line.startswith("No attention maps of AT: ") and "student.pt" in line for line in lacking)


def test_published_tables_have_no_networks(tmp_path):
    runs = as_runs("RepDistiller README")
    table, epochs = summarize(runs), records.epochs(runs)
    drawn = figures.draw(table, runs, epochs)
    text = report.write(tmp_path / "r.html", table, runs, epochs, drawn, []).read_text()
    assert drawn.lacking == {} and "What the networks know" not in text and 'alt="gains' in text


def test_many_methods_fit(outputs):
    bins = {f"method {number}": reliability(KD1, KD1.argmax(1) == TRUTH) for number in range(12)}
    figure = network_figures.reliability_diagrams(bins, {}, "title")
    assert len(figure.axes) == 12 and figure.get_figheight() < 8
