"""kdexp/report/comparing/recipes.py against other ways to compute the same numbers and simulations with a known truth; its text."""

import functools
import itertools
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy import special, stats
from synthetic import record

from kdexp.report.comparing import multivariate_t, recipes
from kdexp.report.comparing.model import fit
from kdexp.report.comparing.multivariate_t import critical
from kdexp.report.comparing.table import summarize
from kdexp.report.reading import records
from kdexp.report.showing.recipes import sections

METHODS = ["none", "kd", "at", "rkd", "dist"]


def runs(values, metric="test_acc"):
    """What `records.read` makes of (recipe, method, seed) values, as far as a table needs it. No files: a thousand tables
    are drawn."""
    rows = []
    for (recipe, method, seed), value in np.ndenumerate(values):
        taught = method > 0
        shared = {"recipe": f"recipe{recipe}", "epochs": 12, "device": "cpu", "precision": "fp32"}
        rows.append(
            {
                **{"dataset": "cifar100", "teacher": "wrn16_2" if taught else "", "student": "resnet8"},
                **{"distill": METHODS[method], "seed": seed, "status": "done", "label": METHODS[method], "note": ""},
                **{"control": False, "folder": "", metric: value, "shared_settings": json.dumps(shared)},
                "method_settings": json.dumps({"distill": METHODS[method]} if taught else {}),
            }
        )
    return pd.DataFrame(rows)


def family(values):
    (found,) = recipes.families(summarize(runs(values)))
    return found


def drawn(random, gains, sigmas, seeds=3):
    """(recipe, method, seed) accuracies: gains (recipe, method), a noise for each recipe, seeds that are lucky for all."""
    shape = (*np.shape(gains), seeds)
    noise = random.normal(0, np.array(sigmas)[:, None, None], shape)
    return 60 + np.array(gains)[..., None] + random.normal(0, 1, (shape[0], 1, seeds)) + noise


def slow_interval(values, recipe, other, method, draws=100_000):
    """(difference, low, high, p) of one change by plain formulas, its bound from draws of a multivariate t."""
    gains = values[:, 1:] - values[:, :1]
    rest = values - values.mean(2, keepdims=True) - values.mean(1, keepdims=True) + values.mean((1, 2), keepdims=True)
    df = (values.shape[1] - 1) * (values.shape[2] - 1)
    noise = 2 * (rest**2).sum((1, 2)) / df / values.shape[2]  # of a gain
    error = lambda one, two: np.sqrt(noise[one] + noise[two])
    own = error(recipe, other) ** 4 / ((noise[recipe] ** 2 + noise[other] ** 2) / df)
    random = np.random.default_rng(0)
    normal = random.normal(size=(draws, *values.shape[:2])) * np.sqrt(noise / 2)[:, None]
    normal = normal[..., 1:] - normal[..., :1]
    pairs = list(itertools.combinations(range(len(values)), 2))
    largest = np.max([np.abs(normal[:, two] - normal[:, one]).max(1) / error(one, two) for one, two in pairs], axis=0)
    largest /= np.sqrt(random.chisquare(own, draws) / own)
    difference = gains.mean(2)[recipe, method - 1] - gains.mean(2)[other, method - 1]
    half = np.quantile(largest, 0.95) * error(recipe, other)
    return difference, difference - half, difference + half, (largest >= abs(difference) / error(recipe, other)).mean()


def test_changes_equal_plain_formulas_and_draws():
    random = np.random.default_rng(3)
    values = drawn(random, random.normal(0, 0.4, (3, 5)), (0.2, 0.3, 0.7))
    found = recipes.changes(family(values))
    assert len(found) == 12
    for row in found[::4].itertuples():
        places = int(row.under[-1]), int(row.other[-1]), METHODS.index(row.method)
        expected = slow_interval(values, *places)
        assert row.difference == pytest.approx(expected[0])
        assert (row.low, row.high) == pytest.approx(expected[1:3], abs=0.02 * (row.high - row.low))
        assert row.p == pytest.approx(expected[3], abs=5e-3)


def test_many_changes_are_joined_by_sidaks_bound(monkeypatch):
    """It holds whatever the correlation: a little wider, never narrower. Exact for one change; for several independent ones
    it is the product."""
    random = np.random.default_rng(3)
    values = drawn(random, random.normal(0, 0.4, (3, 5)), (0.2, 0.3, 0.7))
    exact = recipes.changes(family(values))
    monkeypatch.setattr(recipes, "MANY", 11)
    found = recipes.changes(family(values))
    wider = (found.high - found.low) / (exact.high - exact.low)
    assert ((wider > 0.995) & (wider < 1.15)).all() and (found.p > exact.p - 0.003).all() and (found.p <= 1).all()
    half, p = multivariate_t.sidak(np.array([2.0, 0.0]), np.array([7.0, 9.0]), 0.05)
    alone = 2 * stats.t.sf(half, [7, 9])
    assert 1 - np.prod(1 - alone) == pytest.approx(0.05) and p[1] == pytest.approx(1)
    assert p[0] == pytest.approx(1 - (1 - 2 * stats.t.sf(2, 7)) ** 2)


def test_one_method_under_two_recipes_is_welch_on_its_paired_gains():
    values = drawn(np.random.default_rng(1), [[0, 1], [0, 1.5]], (0.2, 0.6), seeds=4)
    (row,) = recipes.changes(family(values)).itertuples()
    gains = values[:, 1] - values[:, 0]
    theirs = stats.ttest_ind(gains[1], gains[0], equal_var=False)
    interval = theirs.confidence_interval()
    assert row.p == pytest.approx(theirs.pvalue, abs=1e-3) and row.df == pytest.approx(theirs.df)
    assert (row.low, row.high) == pytest.approx((interval.low, interval.high), rel=1e-2)


def test_with_equal_noises_the_changes_are_those_of_statsmodels():
    """Method x recipe, seeds in their recipe: its least squares have the same differences and, where the recipes' sigmas are
    equal, the same standard errors; its F test of the interaction sees it too."""
    pytest.importorskip("statsmodels")
    import statsmodels.formula.api as formula

    random = np.random.default_rng(8)  # neither baseline is found to be noisier
    values = drawn(random, [[0, 1, 2], [0, 3, 2]], (0.3, 0.3))
    rest = values - values.mean(2, keepdims=True) - values.mean(1, keepdims=True) + values.mean((1, 2), keepdims=True)
    values += rest * (np.sqrt((rest[0] ** 2).sum() / (rest**2).sum((1, 2))) - 1)[:, None, None]  # now equal sigmas
    index = pd.MultiIndex.from_product([range(2), METHODS[:3], range(3)], names=["recipe", "method", "seed"])
    frame = pd.Series(values.ravel(), index, name="value").reset_index()
    control = "C(method, Treatment('none'))"
    theirs = formula.ols(f"value ~ C(recipe) * {control} + C(recipe):C(seed)", frame).fit()
    found = recipes.changes(family(values)).set_index("method")
    names = [f"C(recipe)[T.1]:{control}[T.{method}]" for method in METHODS[1:3]]
    assert found.difference.to_list() == pytest.approx(theirs.params[names].to_list())
    assert found.df.to_numpy() == pytest.approx(theirs.df_resid)
    bound = critical(np.array([[1, 0.5], [0.5, 1]]), 8)
    assert ((found.high - found.low) / 2 / bound).to_list() == pytest.approx(theirs.bse[names].to_list(), rel=1e-4)
    f_test = theirs.f_test([[float(name == one) for name in theirs.params.index] for one in names])
    assert found.p.min() < 0.05 and f_test.pvalue < 0.05


def test_the_order_is_tukeys_in_each_recipe():
    values = drawn(np.random.default_rng(2), np.zeros((3, 5)), (0.2, 0.3, 0.7))
    found = recipes.order(family(values))
    assert len(found) == 10 * 3
    for recipe, block in enumerate(values):
        rest = block - block.mean(1, keepdims=True) - block.mean(0) + block.mean()
        sigma = np.sqrt((rest**2).sum() / 8)
        half = stats.studentized_range.isf(1 - 0.95 ** (1 / 3), 5, 8) * sigma / np.sqrt(3)
        mine = found[found.under == f"recipe{recipe}"]
        means = dict(zip(METHODS, block.mean(1)))
        assert mine.difference.to_list() == pytest.approx(
            [means[a] - means[b] for a, b in zip(mine["first"], mine.second)]
        )
        assert ((mine.high - mine.low) / 2).to_list() == pytest.approx([half] * 10, rel=2e-3)


# how many tables are drawn; the bounds of the tests are those of a binomial count of this many
TABLES = pytest.mark.parametrize("tables", [200, pytest.param(300, marks=pytest.mark.slow)])


@functools.cache
def coarse(correlation, count, sides):
    """multivariate_t._largest from 4,096 points: 1 % off, and fast enough for hundreds of tables."""
    matrix = np.frombuffer(correlation).reshape(count, count)
    weights, vectors = np.linalg.eigh(matrix)
    normal = special.ndtri(stats.qmc.Sobol(count, seed=1).random_base2(12).clip(1e-12, 1 - 1e-12))
    return np.sort(np.abs(normal @ (vectors * np.sqrt(weights.clip(0))).T).max(1)).reshape(256, -1).mean(1)


def frame(values):
    """A family made without a table: just what `changes` and `order` read."""
    found = []
    for recipe, block in enumerate(values):
        model = fit(block)
        common = {"pair": recipe, "under": f"recipe{recipe}", "n": block.shape[1], "metric": "test_acc", "ranked": True}
        for place, row in enumerate(block):
            name = {"method": METHODS[place], "distill": METHODS[place], "place": place, "test": "model"}
            seen = {"mean": row.mean(), "std": row.std(ddof=1), "wide": model.wide[place], "noisy": bool(model.noise)}
            seen |= {"baseline": block[0].mean(), "saved": 0.0, "sigma": model.sigma, "df": model.df}
            if model.noise and not place:
                seen |= {"sigma": model.noise.variance**0.5, "df": model.noise.df}
            found.append({**common, **name, **seen})
    return pd.DataFrame(found)


@TABLES
@pytest.mark.parametrize("sigmas, seeds", [((0.25, 0.25, 0.25), 3), ((0.2, 0.2, 1.0), 3), ((0.2, 0.8), 2)])
def test_equal_gains_change_in_one_of_twenty_tables(sigmas, seeds, tables, monkeypatch):
    """Also where one recipe's noise is five times the others', in which one common sigma finds a change in 11 % of tables."""
    monkeypatch.setattr(multivariate_t, "_largest", coarse)
    random = np.random.default_rng(7)
    gains = np.array([0, 1, 0.5, 2, -1]) + random.normal(0, 3, len(sigmas))[:, None]  # means differ, gains do not
    false = sum((recipes.changes(frame(drawn(random, gains, sigmas, seeds))).p < 0.05).any() for _ in range(tables))
    assert stats.binom.ppf(0.001, tables, 0.03) <= false <= stats.binom.ppf(0.999, tables, 0.06)


def test_noisy_baselines_do_not_change_gains(monkeypatch):
    """Baselines with twice the methods' noise: with one noise level in each recipe, a gain changes in 13 % of tables."""
    monkeypatch.setattr(multivariate_t, "_largest", coarse)
    random, tables, false = np.random.default_rng(10), 200, 0
    for _ in range(tables):
        values = drawn(random, np.zeros((3, 5)), (0.25, 0.25, 0.25))
        values[:, 0] += random.normal(0, 0.25 * np.sqrt(3), (3, 3))
        false += (recipes.changes(frame(values)).p < 0.05).any()
    assert false <= stats.binom.ppf(0.999, tables, 0.075)


def test_seeds_that_only_the_baseline_has_count_between_recipes():
    values = drawn(np.random.default_rng(5), [[0, 1, 2], [0, 3, 2]], (0.3, 0.3), seeds=3)
    more = np.full((2, 3, 6), np.nan)
    more[:, :, :3], more[:, 0, 3:] = values, 60 + np.random.default_rng(6).normal(0, 0.3, (2, 3))
    every = runs(more)
    table = summarize(every[every.test_acc.notna()])
    (found,) = recipes.families(table)
    before, after = recipes.changes(family(values)), recipes.changes(found)
    gains = table[table.distill == "kd"].gain.to_list()
    assert (table[table.distill == "none"].more == 3).all()
    assert after.difference[after.method == "kd"].iloc[0] == pytest.approx(gains[1] - gains[0])
    assert ((after.high - after.low) < (before.high - before.low)).all()


def test_a_row_that_varies_far_more_has_its_own_noise():
    """Its changes get Welch's wide intervals, and the others' stay the same."""
    values = drawn(np.random.default_rng(4), np.zeros((2, 5)), (0.2, 0.2))
    before = recipes.changes(frame(values)).set_index("method")
    values[1, 2] += [-9, 11, 1]
    rows = frame(values)
    after = recipes.changes(rows).set_index("method")
    assert list(rows.method[rows.wide]) == ["at"] and after.df["at"] == pytest.approx(2, abs=0.1)
    assert (after.high - after.low)["at"] > 20 * (after.high - after.low)["kd"]
    assert after.difference["kd"] == pytest.approx(before.difference["kd"])
    places = recipes.places(recipes.order(rows))
    assert (places.verdict[(places["first"] == "at") | (places.second == "at")] == "open").all()


@TABLES
def test_intervals_hold_the_true_changes_all_together(tables, monkeypatch):
    monkeypatch.setattr(multivariate_t, "_largest", coarse)
    random, covered = np.random.default_rng(8), 0
    gains = np.array([[0, 1, 2, 3, 4], [0, 3, -1, 3, 5], [0, 0, 0, 6, 4]])
    for _ in range(tables):
        found = recipes.changes(frame(drawn(random, gains, (0.2, 0.4, 0.8))))
        places = [(int(row.under[-1]), int(row.other[-1]), METHODS.index(row.method)) for row in found.itertuples()]
        truth = np.array([gains[one, method] - gains[two, method] for one, two, method in places])
        covered += ((found.low < truth) & (truth < found.high)).all()
    assert stats.binom.ppf(0.001, tables, 0.94) <= covered <= stats.binom.ppf(0.999, tables, 0.97)


def test_no_crossing_is_claimed_where_there_is_none_and_a_large_one_is_found():
    """Equal methods change places in the means of every table; for certain in fewer than one of twenty."""
    random, tables = np.random.default_rng(9), 60
    wrong = found = 0
    for _ in range(tables):
        flat = recipes.places(recipes.order(frame(drawn(random, np.zeros((3, 5)), (0.2, 0.3, 0.5)))))
        wrong += (flat.verdict == "swapped").any()
        crossing = np.array([[0, 1, 2, 3, 4], [0, 1, 2, 5.5, 4], [0, 1, 2, 3, 4]])
        places = recipes.places(recipes.order(frame(drawn(random, crossing, (0.2, 0.2, 0.2)))))
        (pair,) = places[(places["first"] == "rkd") & (places.second == "dist")].itertuples()
        found += pair.verdict == "swapped"
    assert wrong <= 0.1 * tables and found >= 0.8 * tables


def trained(outputs, means, seeds=(1, 2, 3), **changes):
    """Records of one pair: {recipe: {method: mean}}, 0.1 points of noise."""
    random = np.random.default_rng(0)
    for recipe, row in means.items():
        for method, mean in row.items():
            for seed in seeds:
                acc = round(mean + random.normal(0, 0.1), 2)
                record(outputs, method, seed=seed, acc=acc, recipe=recipe, **changes)
    return summarize(records.load(outputs), changes.get("metric", "test_acc"))


TURNED = {
    "crd240": {"none": 60, "kd": 63, "rkd": 62, "at": 61},
    "cutmix300": {"none": 55, "kd": 58, "rkd": 60, "at": 56},
}
SAME = {"crd240": TURNED["crd240"], "cutmix300": {name: mean - 5 for name, mean in TURNED["crd240"].items()}}
SHRUNK = {"crd240": TURNED["crd240"], "cutmix300": {"none": 55, "kd": 56.5, "rkd": 56, "at": 55.5}}


def test_the_answer_tells_a_changed_order_from_changed_gains(tmp_path):
    (turned,) = sections(trained(tmp_path / "turned", TURNED))
    assert turned.answer.startswith("The ranking changes with the recipe: KD is better than RKD under crd240 (+0.")
    assert " points, +0." in turned.answer and "and worse under cutmix300 (-2." in turned.answer
    assert "RKD's gain is 3." in turned.reasons[0] and "higher under cutmix300 than under crd240" in turned.reasons[0]
    assert turned.gains.set_index("gain over none (rank)").loc["RKD", "cutmix300"].endswith(" (1)")
    (same,) = sections(trained(tmp_path / "same", SAME))
    assert (
        same.answer.startswith("The ranking does not depend on the recipe")
        and "The largest change seen" in same.reasons[0]
    )
    assert "(6 of 6 pairs)" in " ".join(same.reasons)
    (shrunk,) = sections(trained(tmp_path / "shrunk", SHRUNK))
    assert "does not depend" in shrunk.answer and "KD's gain is 1." in shrunk.reasons[0]
    assert "higher under crd240 than under cutmix300" in shrunk.reasons[0]
    few = {recipe: {"none": 60, "kd": 60.1} for recipe in ("crd240", "cutmix300")}
    (open_,) = sections(trained(tmp_path / "few", few))
    assert open_.answer.startswith("These seeds cannot tell whether the ranking depends")
    assert "another training of it may give other gains" in open_.reasons[-1]


def test_only_blocks_that_differ_in_their_recipe_are_compared(tmp_path):
    for place, changes in enumerate(
        ({"limit": 100}, {"student": "resnet8"}, {"dataset": "cifar10"}, {"device": "cuda:0"})
    ):
        result = {"result": {"device": "cuda:0"}} if "device" in changes else {}
        trained(tmp_path / str(place), {"crd240": TURNED["crd240"]})
        assert not sections(trained(tmp_path / str(place), {"cutmix300": SAME["cutmix300"]}, **changes, **result))
    (found,) = sections(trained(tmp_path / "0", {"crd240": SAME["cutmix300"]}, lr=0.1))  # the other limit stays out
    assert found.recipes == ["optimizer.lr=0.05", "optimizer.lr=0.1"] or found.recipes == [
        "recipe.lr=0.05",
        "recipe.lr=0.1",
    ]


def test_what_is_left_out_is_named(tmp_path):
    means = {
        "crd240": TURNED["crd240"],
        "cutmix300": {"none": 55, "kd": 58, "rkd": 60},
        "trivial200": {"none": 50, "kd": 52},
    }
    trained(tmp_path, {name: row for name, row in means.items() if name != "trivial200"})
    trained(tmp_path, {"trivial200": means["trivial200"]}, seeds=[1])
    record(tmp_path, "rkd", seed=3, status="failed", recipe="crd240", acc=None)
    (found,) = sections(summarize(records.load(tmp_path)))
    assert "Nothing is claimed under trivial200 (one seed, or nothing varies)." in found.reasons
    (left,) = [line for line in found.reasons if line.startswith("Not compared under every recipe")]
    assert "AT under cutmix300 (not run)" in left and "RKD under crd240 (2 of 3 (1 failed) runs)" in left
    assert set(found.changes.method) == {"KD"} and set(found.order["first"]) == {"none"}
    only = summarize(records.load(tmp_path / "cifar100").query("seed == 1"))
    (found,) = sections(only)
    assert found.answer.startswith("Nothing can be claimed about the ranking") and found.changes.empty


def test_a_loss_is_better_when_lower(tmp_path):
    turned = summarize(
        runs(100 - drawn(np.random.default_rng(2), [[0, 1, 2], [0, 2, 1]], (0.05, 0.05)), "test_loss"), "test_loss"
    )
    (found,) = sections(turned)
    assert "kd is better than at under recipe1 (-" in found.answer
    assert found.gains.set_index("gain over none (rank)").loc["kd", "recipe1"].endswith("(1)")


def test_it_is_on_the_screen_in_the_files_and_on_the_page(tmp_path):
    trained(tmp_path / "several", TURNED)
    trained(tmp_path / "one", {"crd240": TURNED["crd240"]})
    command = [sys.executable, "analysis/summarize.py", "--html"]
    several, one = (
        subprocess.run(
            [*command, tmp_path / name], capture_output=True, text=True, check=True, env=os.environ | {"COLUMNS": "400"}
        )
        for name in ("several", "one")
    )
    words = "The ranking changes with the recipe: KD is better than RKD"
    for text in (
        several.stdout,
        (tmp_path / "several/summary.md").read_text(),
        (tmp_path / "several/report.html").read_text(),
    ):
        assert words in text and "cutmix300 minus crd240" in text
    found = json.loads((tmp_path / "several/summary.json").read_text())
    (numbers,) = [block["recipes"] for block in found if "recipes" in block]
    assert numbers["findings"][0].startswith(words) and len(numbers["changes"]) == 3 and len(numbers["order"]) == 12
    assert {"first": "KD", "second": "RKD", "verdict": "swapped", "crossed": True} in numbers["pairs"]
    quiet = [
        one.stdout,
        *((tmp_path / "one" / name).read_text() for name in ("summary.md", "summary.json", "report.html")),
    ]
    assert not any("order of methods" in text or '"recipes"' in text for text in quiet)
