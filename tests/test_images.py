"""Intervals over seeds and images, against other ways to compute the same numbers and simulations with a known truth."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic import predicted, record

from kdexp.report.comparing.comparisons import compare
from kdexp.report.comparing.images import bound, parts, widened
from kdexp.report.comparing.model import fit
from kdexp.report.comparing.table import summarize
from kdexp.report.reading import records
from kdexp.report.reading.arrays import right
from kdexp.report.showing import formats, image_findings, labels
from kdexp.report.showing.output import display
from kdexp.storage import seal


def drawn(random, rows, seeds, images, image=0.5, run=0.1, rest=1.0, gap=0.0):
    """(rows, seeds, images) of 100 and 0: latent scores with components of known standard deviations, each row with its
    own, on images of different difficulty. Row 1 is better by `gap`; all others are equal in truth."""
    score = 1 + random.normal(0, 1.5, images) + random.normal(0, image, (rows, 1, images))
    score = score + random.normal(0, run, (rows, seeds, 1)) + random.normal(0, rest, (rows, seeds, images))
    score[1] += gap
    return 100.0 * (score > 0)


def finds(right):
    """Which rows are told apart from row 0: by the interval over seeds, over seeds and images, over images alone."""
    rows, seeds, images = right.shape
    differences = right[1:] - right[0]
    components, errors = [parts(one) for one in differences], bound(images, rows - 1)
    gains = np.abs(differences.mean((1, 2)))
    alone = gains > errors * np.sqrt([one.alone for one in components])
    if seeds < 2:
        return (alone,)
    found = compare(fit(right.mean(2), percent=True), 0, list(range(1, rows)))
    low = [widened(half, one, errors) for half, one in zip(found.difference - found.low, components)]
    high = [widened(half, one, errors) for half, one in zip(found.high - found.difference, components)]
    over = (found.difference > low) | (-found.difference > high)
    return (found.low > 0) | (found.high < 0), over, alone


def shares(count, *sizes, seed=0, **components):
    """Share of tables with any find, and with row 1 found, for each kind of interval."""
    random, any_of, first = np.random.default_rng(seed), [], []
    for _ in range(count):
        found = finds(drawn(random, *sizes, **components))
        any_of.append([one.any() for one in found])
        first.append([one[0] for one in found])
    return np.mean(any_of, axis=0), np.mean(first, axis=0)


def satterthwaite(right):
    """Which rows differ by the usual interval in place of Howe's: one variance with degrees of freedom of its own."""
    rows, seeds, images = right.shape
    model, components = fit(right.mean(2)), [parts(one) for one in right[1:] - right[0]]
    found = []
    for gain, one in zip((right[1:] - right[0]).mean((1, 2)), components):
        own, df = model.sigma**2 * 2 / seeds, [model.df, images - 1, (seeds - 1) * (images - 1)]
        variance = own + one.lasting
        freedom = variance**2 / (np.array([own, one.alone, one.rest]) ** 2 / df).sum()
        found.append(abs(gain) > stats.t.isf((1 - 0.95 ** (1 / (rows - 1))) / 2, freedom) * np.sqrt(variance))
    return np.array(found)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_components_are_those_of_a_two_way_anova(seeds):
    pytest.importorskip("statsmodels")
    import statsmodels.formula.api as formula
    from statsmodels.stats.anova import anova_lm

    right = drawn(np.random.default_rng(seeds), 2, seeds, 30)
    differences, found = right[1] - right[0], parts(right[1] - right[0])
    frame = pd.DataFrame(differences).stack().rename("value").rename_axis(["seed", "image"]).reset_index()
    squares = anova_lm(formula.ols("value ~ C(seed) + C(image)", frame).fit())["mean_sq"]
    assert found.alone * seeds * 30 == pytest.approx(squares["C(image)"])
    assert found.rest * seeds * 30 == pytest.approx(squares["Residual"])
    assert found.lasting == pytest.approx(max(squares["C(image)"] - squares["Residual"], 0) / seeds / 30)


def test_one_seed_is_a_paired_test_over_images():
    right = drawn(np.random.default_rng(0), 2, 1, 400)[:, 0]
    found = parts((right[1] - right[0])[None])
    assert np.isnan(found.rest) and np.isnan(found.lasting)
    theirs = stats.ttest_rel(right[1], right[0]).confidence_interval(0.95)
    assert bound(400, 1) * np.sqrt(found.alone) == pytest.approx((theirs.high - theirs.low) / 2)


def test_components_of_a_known_truth():
    """Differences of normal components: the mean of 400 estimates is the truth, and the widened variance counts the rest once."""
    random, sizes, truth = np.random.default_rng(1), (3, 200), {"image": 4.0, "run": 0.5, "rest": 9.0}
    means, found = [], []
    for _ in range(400):
        draw = random.normal(0, 4, sizes[1]) + random.normal(0, 0.5, (3, 1)) + random.normal(0, 9, sizes)
        means.append(draw.mean())
        found.append(parts(draw))
    rest = truth["rest"] ** 2 / 600
    assert np.mean([one.rest for one in found]) == pytest.approx(rest, rel=0.02)
    assert np.mean([one.alone for one in found]) == pytest.approx(truth["image"] ** 2 / 200 + rest, rel=0.02)
    over_seeds = truth["run"] ** 2 / 3 + rest  # what an interval over seeds holds, with its half-width known
    whole = np.mean([widened(np.sqrt(over_seeds), one, 1) ** 2 for one in found])
    assert whole == pytest.approx(np.var(means), rel=0.15) and whole == pytest.approx(over_seeds + 16 / 200, rel=0.02)


@pytest.mark.parametrize(
    "rows, seeds",
    [
        pytest.param(8, 2, marks=pytest.mark.slow),
        (8, 3),
        (4, 3),
        (2, 3),
        pytest.param(2, 2, marks=pytest.mark.slow),
        pytest.param(8, 10, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("run", [0.0, 0.1])
def test_false_finds_are_at_most_five_percent_of_tables(rows, seeds, run):
    """No gap at all, but rows that are better on some images and worse on others."""
    count = 600
    (_, false, _), _ = shares(count, rows, seeds, 500, seed=rows + seeds, run=run)
    assert false < 0.05 + 2 * np.sqrt(0.05 * 0.95 / count)


def test_an_interval_over_seeds_says_nothing_of_other_images():
    """Ten seeds, and seven rows that differ from none on these 500 images but not in truth: one table in four says they do."""
    (seeds, both, _), _ = shares(400, 8, 10, 500, seed=3, run=0.0)
    assert seeds > 0.2 and both < 0.08


def test_the_power_claimed():
    """A true gap of 4.5 points, 2000 images, three seeds, seven methods: found in 74 % of tables, over seeds in 75 %."""
    _, (seeds, both, _) = shares(400, 8, 3, 2000, seed=5, run=0.05, gap=0.25)
    assert 0.65 < seeds - 0.05 < both < seeds


@pytest.mark.parametrize("rows", [2, 8])
def test_one_seed_is_a_lower_bound_of_the_noise(rows):
    """Right where runs differ only image by image, as after long training; too small where whole runs are better or worse."""
    (alone,), _ = shares(300, rows, 1, 500, seed=7, run=0.0)
    assert 0.02 < alone < 0.05 + 2 * np.sqrt(0.05 * 0.95 / 300)
    (alone,), _ = shares(100, rows, 1, 500, seed=7, run=0.2)
    assert alone > 0.2


@pytest.mark.parametrize("seeds, least", [(2, 0.07), (3, 0.06)])
def test_satterthwaite_promises_too_much(seeds, least):
    random = np.random.default_rng(9)
    tables = [drawn(random, 2, seeds, 500) for _ in range(500)]
    ours, theirs = (
        np.mean([finds(one)[1].any() for one in tables]),
        np.mean([satterthwaite(one).any() for one in tables]),
    )
    assert ours < 0.05 and theirs > least


def written(outputs, bits, kept=True, skip=()):
    """Records of none, KD and SP from (3, seeds, images) of 100 and 0."""
    for name, rows in zip(("none", "kd", "sp"), bits):
        for seed, row in enumerate(rows, 1):
            predicted(record(outputs, name, seed, row.mean()), row > 0, kept and (name, seed) not in skip)
    return records.load(outputs)


def text(table):
    (rows,) = labels.pairs(table)
    return " ".join(image_findings.sentences(rows))


def test_the_table_over_images(tmp_path):
    bits = drawn(np.random.default_rng(0), 3, 3, 2000, run=0, gap=0.4)
    table = summarize(written(tmp_path, bits), over="images")
    for index, name in ((1, "kd"), (2, "sp")):
        row, found = table[table.distill == name].iloc[0], parts(bits[index] - bits[0])
        assert row.images_alone == pytest.approx(bound(2000, 2) * np.sqrt(found.alone)) and row.test_images == 2000
        assert row.gain - row.low_images == pytest.approx(widened(row.gain - row.low, found, bound(2000, 2)))
        assert row.low_images < row.low < row.high < row.high_images and row.images_lasting < row.images_alone
    (rows,) = labels.pairs(table)
    shown = display(rows)
    assert list(shown["seeds and images"])[0] == "" and f"{rows.low_images[1]:+.2f} .. " in shown["seeds and images"][1]
    assert "these same 2,000 test images" in text(table) and "Different from none on other images too: KD." in text(
        table
    )
    assert "more seeds do not reduce it" in text(table)
    found = json.loads(formats.to_json(table))[0]
    assert found["rows"][1]["low_images"] == pytest.approx(rows.low_images[1]) and text(table) in " ".join(
        found["findings"]
    )
    plain = summarize(records.load(tmp_path))
    assert "(--over images shows it)" in text(plain) and "seeds and images" not in display(labels.pairs(plain)[0])
    assert plain.low_images.equals(table.low_images) and "low_images" in formats.columns(plain)


def test_a_claim_that_holds_on_these_images_alone(tmp_path):
    """KD is right on eight images more and on four fewer, the same ones on every seed: no noise over seeds, and McNemar would
    not be convinced."""
    right = np.tile(np.random.default_rng(0).random(1000) > 0.2, (3, 3, 1))
    right[1][:, np.r_[np.flatnonzero(~right[0, 0])[:8], np.flatnonzero(right[0, 0])[:4]]] ^= True
    for row, seed, image in ((0, 0, 990), (1, 1, 991), (2, 2, 992), (2, 0, 993)):
        right[row, seed, image] ^= True
    table = summarize(written(tmp_path, 100.0 * right))
    kd = table[table.distill == "kd"].iloc[0]
    assert kd.low > 0 > kd.low_images and kd.high_images - kd.gain == pytest.approx(kd.images_lasting, rel=0.1)
    assert "Different from none on these images only: KD." in text(table) and "too:" not in text(table)


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_get_the_lower_bound(tmp_path, seeds):
    bits = drawn(np.random.default_rng(4), 3, seeds, 800, gap=2)
    table = summarize(written(tmp_path, bits), over="images")
    kd, sp = (table[table.distill == name].iloc[0] for name in ("kd", "sp"))
    assert np.isfinite(kd.images_alone) and np.isfinite(kd.low_images) == (seeds > 1) and abs(sp.gain) < sp.images_alone
    assert "The 800 test images alone leave gains uncertain by ±" in text(table)
    assert "so it is a lower bound. One gain is within it" in text(table)
    (rows,) = labels.pairs(table)
    assert seeds > 1 or display(rows)["images alone"][1] == f"±{kd.images_alone:.2f}"


def test_records_without_bits_are_read_as_before(tmp_path):
    bits = drawn(np.random.default_rng(0), 3, 3, 200)
    table = summarize(written(tmp_path, bits, kept=False))
    assert text(table) == "" and "images_alone" not in formats.columns(table) and "images" not in formats.to_json(table)
    with pytest.raises(
        ValueError, match="--over images: no method and its baseline have records of which images they got right"
    ):
        summarize(records.load(tmp_path), over="images")
    written(tmp_path, bits, skip=[("kd", 2)])
    (tmp_path / "cifar100/wrn16_4-resnet20/kd/base/seed2/right.npy").unlink(missing_ok=True)
    table = summarize(records.load(tmp_path))
    assert (
        table.low_images.notna().sum() == 1
        and "No interval over images, because some runs lack right.npy: KD." in text(table)
    )
    with pytest.raises(ValueError, match="only test_acc is known per image, not test_loss"):
        summarize(records.load(tmp_path), "test_loss", "images")
    assert summarize(records.load(tmp_path), "test_loss").test_images.isna().all()


def test_old_records_with_the_labels_of_their_data_set(tmp_path, monkeypatch, capsys):
    bits = drawn(np.random.default_rng(0), 3, 3, 200)
    whole = summarize(written(tmp_path / "new", bits), over="images")
    runs = written(tmp_path / "old", bits, kept=False)
    monkeypatch.setattr("kdexp.report.comparing.images.labels_of", lambda run, data: np.ones(200))
    assert summarize(runs, over="images", data="data").low_images.equals(whole.low_images)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="no method and its baseline have records of which images"):
        summarize(runs, over="images", data=str(tmp_path / "nowhere"))
    assert capsys.readouterr().err.count("not over images: --data") == 1


def test_bits_that_are_not_the_runs_own(tmp_path):
    truth = np.arange(50) % 3 > 0
    folder = record(tmp_path, "kd", 1, 100 * truth.mean())
    predicted(folder, truth)
    accuracy = 100 * truth.mean()
    assert (right(folder, accuracy) == truth).all() and right(folder, accuracy + 2) is None
    assert right(tmp_path, accuracy) is None
    for damaged in (b"", b"no numpy", (folder / "right.npy").read_bytes()[:-1]):
        (folder / "right.npy").write_bytes(damaged)
        assert right(folder, accuracy) is None
        assert (right(folder, accuracy, np.ones(60)) == truth).all()  # labels of the data set: all are of class 1
    predicted(folder, truth)
    result = json.loads((folder / "result.json").read_text())
    files = {name: (folder / name).read_bytes() for name in seal.SEALED if (folder / name).exists()}
    (folder / "result.json").write_text(json.dumps(seal.sealed(result, files)))
    assert (right(folder, accuracy) == truth).all() and "right.npy" in files
    np.save(folder / "right.npy", np.packbits(np.roll(truth, 3)))
    assert right(folder, accuracy) is None and seal.damaged(folder) == ["right.npy"]
