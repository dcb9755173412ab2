"""Recipe options beyond step schedules: schedules against torch's own; smoothing, clipping and averaging by hand; exact
alone, in a group, and after a resume."""

import copy

import pytest
import torch
import yaml
from test_train import CPU, Stop, Trial, equal, teacher  # noqa: F401
from torch.nn.functional import cross_entropy
from torch.optim import lr_scheduler

import kdexp
from kdexp.config import resolve
from kdexp.evaluate import evaluate
from kdexp.experiment.data import load_data, train_batches
from kdexp.training import memory
from kdexp.training.schedules import learning_rate, schedule

EVERYTHING = ("recipe.schedule=cosine", "recipe.warmup=0.5", "recipe.smoothing=0.1", "recipe.clip=0.5")
EVERYTHING += ("recipe.ema=0.9", "epochs=3")


def torchs(epochs, make):
    """The factors of torch's scheduler, epoch by epoch."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, factors = make(optimizer), []
    for _ in range(epochs):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return factors


LATER = {
    "cosine": lambda optimizer, left: lr_scheduler.CosineAnnealingLR(optimizer, left),
    "linear": lambda optimizer, left: lr_scheduler.LinearLR(optimizer, 1.0, 0.0, left),
}


@pytest.mark.parametrize("schedule", LATER)
@pytest.mark.parametrize("epochs, warmup, warm", [(7, 0.0, 0), (240, 0.05, 12), (30, 0.1, 3), (10, 0.15, 2)])
def test_schedules_are_torchs(schedule, epochs, warmup, warm):
    def make(optimizer):
        after = LATER[schedule](optimizer, epochs - warm)
        if not warm:
            return after
        rise = lr_scheduler.LinearLR(optimizer, 1 / (warm + 1), 1.0, warm)
        return lr_scheduler.SequentialLR(optimizer, [rise, after], [warm])

    factor = learning_rate(epochs, schedule, [], 0.1, warmup)
    assert [factor(epoch) for epoch in range(epochs)] == pytest.approx(torchs(epochs, make), abs=1e-9)


def test_steps_with_a_warm_up_are_torchs():
    def make(optimizer):
        steps = lr_scheduler.MultiStepLR(optimizer, [15, 18], 0.1)
        return lr_scheduler.ChainedScheduler([lr_scheduler.LinearLR(optimizer, 1 / 3, 1.0, 2), steps])

    factor = learning_rate(20, "step", [0.75, 0.9], 0.1, 0.1)
    assert [factor(epoch) for epoch in range(20)] == pytest.approx(torchs(20, make))


@pytest.mark.parametrize("schedule", ["step", *LATER])
@pytest.mark.parametrize("warmup", [0.0, 0.2, 0.99])
def test_any_number_of_epochs_has_a_rate(schedule, warmup):
    for epochs in range(1, 12):
        factor = learning_rate(epochs, schedule, [0.5], 0.1, warmup)
        assert all(0 < factor(epoch) <= 1 for epoch in range(epochs))


def first_batch(trial, config):
    """(images, labels) of the first step."""
    images, labels, _ = next(train_batches(config, trial.data).epoch(0))
    return images, labels


def test_smoothing_is_of_the_cross_entropy_alone(tiny, teacher):  # noqa: F811
    """(1 - s) CE + s times the mean over the classes; a KD term does not change."""
    words = ("distill=kd", "batch_size=64", "optimizer.lr=1e-9", "epochs=1")
    rows = {}
    for smoothing in (0.0, 0.3):
        trial = Trial([tiny(*words, f"recipe.smoothing={smoothing}")], teacher, 1)
        images, labels = first_batch(trial, trial.config)
        logits = copy.deepcopy(trial.learners[0].student).train()(images).logits
        uniform = -logits.log_softmax(1).mean()
        expected = 0.1 * ((1 - smoothing) * cross_entropy(logits, labels) + smoothing * uniform)
        ((rows[smoothing],),) = trial.rows()
        assert rows[smoothing]["ce_loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert rows[0.3]["distill_loss"] == rows[0.0]["distill_loss"]


def test_the_gradient_is_clipped_with_the_connectors(tiny, teacher):  # noqa: F811
    """One step of plain SGD moves all weights, student's and connectors' together, by lr * clip."""
    words = ("distill=fn", "batch_size=64", "epochs=1", "optimizer.momentum=0", "optimizer.weight_decay=0")
    norms = {}
    for clip in (0.0, 0.01):
        trial = Trial([tiny(*words, "optimizer.lr=0.1", f"recipe.clip={clip}")], teacher, 1)
        trained = [p for group in trial.learners[0].optimizer.param_groups for p in group["params"]]
        before = [p.detach().clone() for p in trained]
        list(trial.rows())
        moved = [p.detach() - old for p, old in zip(trained, before)]
        assert moved[0].norm() > 0 and moved[-1].norm() > 0  # the student's first weights, a connector's last
        norms[clip] = torch.cat([one.flatten() for one in moved]).norm().item()
    assert norms[0.01] == pytest.approx(0.1 * 0.01, rel=1e-3) and norms[0.0] > 0.1 * 0.02


def test_the_average_by_hand(tiny, teacher):  # noqa: F811
    """a <- d a + (1 - d) w after each step, from the weights after the first; so are the BatchNorm statistics."""
    trial = Trial([tiny("distill=none", "recipe.ema=0.8", "epochs=1")], teacher, 1)
    (learner,), seen = trial.learners, []
    ((row,),) = trial.rows(after_step=lambda: seen.append(copy.deepcopy(learner.student.state_dict())))
    assert len(seen) == 4
    average = learner.scored.state_dict()
    for key, value in average.items():
        if value.is_floating_point():
            expected = seen[0][key]
            for state in seen[1:]:
                expected = 0.8 * expected + 0.2 * state[key]
            torch.testing.assert_close(value, expected)
    assert not equal(average, seen[-1])
    score = evaluate(learner.scored, trial.data.test, trial.data.pixels)
    assert (row["test_loss"], row["test_acc"]) == (score.loss, score.acc)


def test_with_everything_alone_equals_together_and_going_on_is_exact(tiny, teacher):  # noqa: F811
    configs = [tiny(f"distill={name}", *EVERYTHING) for name in ("none", "kd", "fn", "ft")]
    first = Trial(configs, teacher, 3)
    expected, weights = first.train()
    averages = [copy.deepcopy(learner.scored.state_dict()) for learner in first.learners]
    for i, config in enumerate(configs):
        alone = Trial([config], teacher, 3)
        rows, weight = alone.train()
        assert rows[0] == expected[i] and equal(weight[0], weights[i])
        assert equal(alone.learners[0].scored.state_dict(), averages[i])
    stopped, count = Trial(configs, teacher, 3), iter(range(1, 1000))

    def stop():
        if next(count) == 6:
            raise Stop

    with pytest.raises(Stop):
        list(stopped.rows(after_step=stop))
    again = Trial(configs, teacher, 3)
    for old, new in zip(stopped.learners, again.learners):
        new.load_state_dict(copy.deepcopy(old.state_dict()))
    rows, _ = again.train()
    for i, learner in enumerate(again.learners):
        assert rows[i] == expected[i][1:] and equal(learner.scored.state_dict(), averages[i])


def test_the_average_is_saved_and_loads(run, tmp_path):
    run("distill=none", "recipe.ema=0.5", check=0)
    (file,) = tmp_path.glob("outputs/**/student.pt")
    assert yaml.safe_load((file.parent / "config.yaml").read_text())["recipe"]["ema"] == 0.5
    trained = kdexp.load(file.parent)
    data = load_data(trained.config, CPU.device)
    score = evaluate(trained, data.test, data.pixels)
    assert str(score.acc) in (file.parent / "epochs.csv").read_text().splitlines()[-1].split(",")


def test_an_average_needs_memory(hydra):
    (plain, taken), (averaged, same) = (memory.student_bytes(hydra(f"recipe.ema={ema}")) for ema in (0, 0.9))
    assert averaged == 1.5 * plain and same == taken


def test_a_recipe_is_what_its_file_says(hydra):
    """cosine240 is crd240 but for the schedule; an experiment is its recipe with its images, and the teacher's too."""
    crd, cosine = hydra("recipe=crd240"), hydra("recipe=cosine240")
    own = {key for key, value in cosine["recipe"].items() if crd["recipe"][key] != value}
    assert own == {"name", "schedule"} and cosine["epochs"] == 240
    factor = schedule(cosine)
    assert factor(0) == 1 and factor(120) == pytest.approx(0.5) and 0 < factor(239) < 1e-4
    whole = hydra("experiment=cutmix300")
    assert whole == hydra("recipe=cutmix300", "augment=cutmix")
    assert resolve.teachers_of(whole)[0]["augment"]["name"] == "cutmix"
