"""distill.until, distill.fade, distill.rise: the method's weight over the epochs."""

import copy

import pytest
from test_train import Stop, Trial, equal, teacher  # noqa: F401

from kdexp.config import naming
from kdexp.training.schedules import method_weight

COURSES = {
    "until=0.5": [1, 1, 0, 0],
    "until=0": [0, 0, 0, 0],
    "fade=1": [1, 0.75, 0.5, 0.25],
    "fade=0.5": [1, 1, 1, 0.5],
    "until=0.75 fade=0.5": [1, 1, 0.5, 0],
    "rise=0.5": [0.5, 1, 1, 1],
    "rise=1": [0.25, 0.5, 0.75, 1],
    "rise=0.5 until=0.75 fade=0.75": [0.5, 2 / 3, 1 / 3, 0],
}


@pytest.mark.parametrize("words", COURSES)
def test_by_hand(words):
    values = dict(word.split("=") for word in words.split())
    values = {key: float(value) for key, value in values.items()}
    assert [method_weight(epoch, 4, **values) for epoch in range(4)] == pytest.approx(COURSES[words])


def test_fading_is_rising_backwards_and_the_default_is_one():
    for epochs in range(1, 13):
        each = range(epochs)
        for share in (0.1, 1 / 3, 0.5, 1.0):
            rise = [method_weight(epoch, epochs, rise=share) for epoch in each]
            assert rise[::-1] == pytest.approx([method_weight(epoch, epochs, fade=share) for epoch in each])
        assert [method_weight(epoch, epochs) for epoch in each] == [1.0] * epochs
        stopped = [method_weight(epoch, epochs, until=1 / 3) for epoch in each]
        assert stopped == [float(epoch / epochs < 1 / 3 - 1e-9) for epoch in each]


@pytest.mark.parametrize("words", ["until=0.5", "fade=1", "rise=1", "until=0.75 fade=0.5"])
def test_it_is_the_methods_weight_and_leaves_the_kd_term(tiny, teacher, words):  # noqa: F811
    own = [f"distill.{word}" for word in words.split()]
    still = ("distill=sp", "epochs=4", "optimizer.lr=1e-9", "distill.weight=3")
    losses = lambda *more: [row["distill_loss"] for (row,) in Trial([tiny(*still, *more)], teacher, 4).rows()]
    plain, changed = losses(), losses(*own)
    assert changed == pytest.approx([loss * factor for loss, factor in zip(plain, COURSES[words])], rel=1e-4)
    kd = [both - sp for both, sp in zip(losses("distill.kd_weight=0.5"), plain)]
    both = losses("distill.kd_weight=0.5", *own)
    assert both == pytest.approx([a + b for a, b in zip(changed, kd)], rel=1e-4)


def test_a_method_that_has_stopped_asks_the_teacher_nothing(tiny, teacher):  # noqa: F811
    def passes(*more):
        trial, seen = Trial([tiny("distill=sp", "epochs=4", *more)], teacher, 4), []
        network = trial.passes["eval"]
        trial.passes["eval"] = lambda images: seen.append(1) or network(images)
        list(trial.rows())
        return len(seen)

    assert passes() == 16 and passes("distill.until=0.5") == 8
    assert passes("distill.until=0.5", "distill.kd_weight=1") == 16


def test_alone_equals_together_and_going_on_is_exact(tiny, teacher):  # noqa: F811
    course = ("epochs=4", "distill.until=0.75", "distill.fade=0.5", "distill.rise=0.5")
    configs = [tiny(f"distill={name}", *course) for name in ("none", "kd", "fn", "od", "crd")]
    expected, weights = Trial(configs, teacher, 4).train()
    for i, config in enumerate(configs):
        rows, alone = Trial([config], teacher, 4).train()
        assert rows[0] == expected[i] and equal(alone[0], weights[i])
    stopped, count = Trial(configs, teacher, 4), iter(range(1, 1000))

    def stop():
        if next(count) == 6:
            raise Stop

    with pytest.raises(Stop):
        list(stopped.rows(after_step=stop))
    again = Trial(configs, teacher, 4)
    for old, new in zip(stopped.learners, again.learners):
        new.load_state_dict(copy.deepcopy(old.state_dict()))
    rows, after = again.train()
    for i in range(len(configs)):
        assert rows[i] == expected[i][1:] and equal(after[i], weights[i])


def test_it_is_part_of_a_methods_name_and_no_part_of_a_baselines(hydra):
    own = ("distill.until=0.5", "distill.fade=0.25")
    assert hydra("distill=none", *own) == hydra("distill=none")
    changed, plain = hydra("distill=sp", *own), hydra("distill=sp")
    assert "distill.fade=0.25,distill.until=0.5" in str(naming.folder(changed))
    assert naming.fingerprint(changed) != naming.fingerprint(plain)
    assert naming.fingerprint(hydra("distill=sp", "distill.until=1", "distill.rise=0")) == naming.fingerprint(plain)
