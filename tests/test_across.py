"""kdexp/report/comparing/across.py and paper.py: comparisons across pairs, checked against other ways to compute the same numbers
and against simulations with a known truth."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from synthetic import record

from kdexp.report.comparing import across, paper
from kdexp.report.comparing.block import year
from kdexp.report.comparing.table import summarize
from kdexp.report.reading import records

NAMES = ["none", "kd", "at", "sp", "crd"]


@pytest.fixture
def values():
    """Five methods, seven pairs; at was not run on two of them, crd on one alone, one cell failed, some are equal."""
    random = np.random.default_rng(0)
    found = pd.DataFrame(random.normal(70, 4, 7) + random.normal(0, 0.6, (5, 7)), index=NAMES).round(2)
    found.loc["at", [1, 4]] = found.loc["kd", 6] = np.nan
    found.loc["crd", 1:] = np.nan
    found.loc["sp", 2] = found.loc["kd", 2]
    return found


def test_every_two_methods_against_scipy_and_counting(values):
    found = across.every_two(values, "none", rope=0.2)
    assert list(zip(found["first"], found["second"])) == list(itertools.combinations(NAMES, 2))
    for row in found.itertuples():
        both = values.loc[[row.first, row.second]].dropna(axis=1)
        d = (both.loc[row.first] - both.loc[row.second]).round(9).to_numpy()
        assert row.pairs == both.shape[1] and row.difference == pytest.approx(d.mean())
        assert (row.wins, row.losses) == (
            (d > 0.2).sum(),
            (d < -0.2).sum(),
        ) and row.wins + row.ties + row.losses == len(d)
        assert row.improvement == pytest.approx(np.mean([(one > 0) + (one == 0) / 2 for one in d]))
        if row.pairs < 2:
            assert np.isnan([row.low, row.high, row.p, row.holm, row.better]).all()
            continue
        theirs = stats.ttest_1samp(d, 0).confidence_interval()
        assert (row.low, row.high) == pytest.approx((theirs.low, theirs.high))
        assert row.p == pytest.approx(counted(d)) and row.better + row.equal + row.worse == pytest.approx(1)


def counted(d):
    """The signed-rank p by counting every assignment of signs, with the ranks of ties shared."""
    d = d[d != 0]
    ranks = stats.rankdata(np.abs(d))
    seen = abs(ranks @ np.sign(d))
    drawn = [abs(ranks @ signs) for signs in itertools.product((-1, 1), repeat=len(d))]
    return np.mean(np.array(drawn) >= seen - 1e-9)


def test_holm_in_two_families_agrees_with_statsmodels(values):
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    found = across.every_two(values, "none")
    mine = found[found.p.notna()]
    control = mine["first"] == "none"
    for some in (mine[control], mine[~control]):
        assert some.holm.to_numpy() == pytest.approx(multitest.multipletests(some.p, method="holm")[1])
    alone = across.every_two(values)  # without a baseline all are one family
    known = alone[alone.p.notna()]
    assert known.holm.to_numpy() == pytest.approx(multitest.multipletests(known.p, method="holm")[1])


@pytest.mark.parametrize("rope", [0.0, 0.2, 1.0])
def test_bayesian_signed_rank_agrees_with_baycomp(values, rope):
    baycomp = pytest.importorskip("baycomp")
    for first, second in (("kd", "none"), ("sp", "kd"), ("at", "sp")):
        both = values.loc[[first, second]].dropna(axis=1).to_numpy()
        *inside, right = baycomp.SignedRankTest.probs(both[1], both[0], rope=rope, nsamples=10_000, random_state=1)
        ours = across.signed_rank_probabilities(both[0] - both[1], rope)
        assert (ours[0], ours[2]) == pytest.approx((right, inside[0]), abs=0.02)
        assert ours == across.signed_rank_probabilities(both[0] - both[1], rope)  # the same every time


def test_a_comparison_depends_on_its_two_methods_alone(values):
    """Mean ranks lack this property (Benavoli et al. 2016); here, other methods change only Holm's factor."""
    all_five, two = across.every_two(values, "none"), across.every_two(values.loc[["none", "sp"]], "none")
    row = all_five[(all_five["first"] == "none") & (all_five["second"] == "sp")].drop(columns="holm")
    pd.testing.assert_frame_equal(row.reset_index(drop=True), two.drop(columns="holm"))


def test_against_turns_every_row_round(values):
    found, mirror = across.every_two(values, "none"), across.every_two(values.iloc[::-1], "none")
    for name in NAMES:
        one, other = (across.against(each, name).sort_values("first", ignore_index=True) for each in (found, mirror))
        assert (one.second == name).all() and len(one) == 4
        pd.testing.assert_frame_equal(one, other, check_exact=False, atol=0.02)


def test_nothing_is_claimed_from_too_little():
    equal = pd.DataFrame(70.0, index=["a", "b"], columns=range(4))
    (row,) = across.every_two(equal).itertuples()
    assert row.p == 1 and np.isnan(row.low) and row.ties == 4 and row.improvement == 0.5 and row.equal > 0.99
    assert across.every_two(equal.iloc[:1]).empty
    (row,) = across.every_two(equal * np.nan).itertuples()
    assert row.pairs == 0 and np.isnan(row.difference) and np.isnan(row.better)


def test_what_cannot_be_reached():
    """n pairs, all on one side: p = 2 / 2^n, the figure that is named for what cannot be claimed."""
    for pairs in (2, 4, 5, 6, 9):
        assert across.wilcoxon(np.arange(1, pairs + 1) / 10) == pytest.approx(across.smallest_p(pairs))
    assert [across.pairs_needed(questions) for questions in (1, 7, 12, 21, 66)] == [6, 9, 9, 10, 12]
    for questions in range(1, 80):
        needed = across.pairs_needed(questions)
        assert across.smallest_p(needed) * questions <= 0.05 < across.smallest_p(needed - 1) * questions


def draws(count, pairs, gap=0.0, spread=0.4, seed=0):
    """(8, pairs) tables: a baseline and seven methods, the second row better by gap. spread: how much a method's gain
    differs from pair to pair, seeds included."""
    random = np.random.default_rng(seed)
    for _ in range(count):
        rows = random.normal(70, 4, pairs) + random.normal(0, spread, (8, pairs))
        rows[1] += gap
        yield rows


def found_by_holm(rows):
    return across.holm(pd.Series([across.wilcoxon(row - rows[0]) for row in rows[1:]])) < 0.05


@pytest.mark.parametrize("pairs", [6, 10])
def test_size(pairs):
    """No method differs: 5 % of tables at most show one. With six pairs none can; with ten, what ranks allow."""
    false = np.mean([found_by_holm(rows).any() for rows in draws(150, pairs)])
    assert false == 0 if pairs < across.pairs_needed(7) else false <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 150)


def test_power():
    """A true gap of 0.8 points where gains differ by 0.4 from pair to pair, seven methods: never found with seven pairs, in
    three of four tables with ten, in nine of ten with thirteen."""
    power = [np.mean([found_by_holm(rows)[0] for rows in draws(100, pairs, gap=0.8)]) for pairs in (7, 10, 13)]
    assert power[0] == 0 and 0.55 < power[1] < 0.9 and power[2] > 0.75


def test_what_the_bayesian_probabilities_do_not_promise():
    """They are not error rates: one of two equal methods is "better by more than 0.2 points" with a probability above 0.95 in
    some tables of four pairs, where Wilcoxon's test finds nothing."""
    found = [across.signed_rank_probabilities(rows[1] - rows[0], 0.2) for rows in draws(300, 4, seed=3)]
    assert np.isnan(across.signed_rank_probabilities(np.array([3.0, 2.0]), 0.2)).all()  # two pairs: nothing at all
    loud = np.mean([max(better, worse) > 0.95 for better, _, worse in found])
    assert 0.01 < loud < 0.2


def paired(outputs, teacher, student, **methods):
    for name, accuracies in methods.items():
        for seed, acc in enumerate(accuracies, 1):
            status = "done" if acc is not None else "failed"
            record(outputs, name, seed, acc, status, teacher=teacher, student=student)


def test_papers_are_pairs_of_one_setting_in_papers_order(tmp_path):
    paired(tmp_path, "wrn16_4", "resnet20", none=[70, 70.2], kd=[71, 71.4], sp=[72, 72.4], at=[70, None])
    paired(tmp_path, "wrn16_2", "resnet8", none=[60, 60.2], kd=[61.5, 61.1], zz=[60, 61])
    for seed in (1, 2):
        record(tmp_path, "none", seed, 50.0, lr=0.1), record(tmp_path, "kd", seed, 52.0, lr=0.1)  # another setting
    first, second = sorted(paper.papers(summarize(records.load(tmp_path))), key=len, reverse=True)
    assert paper.names(first) == ["wrn16_2 -> resnet8", "wrn16_4 -> resnet20"] and paper.names(second) == [
        "wrn16_4 -> resnet20"
    ]
    means, gains = paper.means(first), paper.gains(first)
    assert list(means.index) == ["none", "KD", "AT", "SP", "ZZ"] and list(gains.index) == ["KD", "AT", "SP", "ZZ"]
    assert np.isnan(means.loc["AT", 1]) and np.isnan(means.loc["SP", 0])  # half of its seeds failed; never run
    assert gains.loc["KD"].to_list() == pytest.approx([1.2, 1.1]) and set(first.family) == {"cross"}
    found = across.every_two(means, paper.baseline(first))
    row = found[(found["first"] == "KD") & (found["second"] == "SP")].iloc[0]
    assert row.pairs == 1 and row.difference == pytest.approx(-1.0)


def test_the_year_of_a_method_stands_in_its_file():
    assert [year(name) for name in ("none", "kd", "nst", "sp", "nobody")] == [0, 2015, 2017, 2019, 9999]
