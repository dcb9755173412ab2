"""The loop: common random numbers, alone equals together, going on exactly, ends that are not successes."""

import copy
import gc
import weakref

import pytest
import torch
from conftest import DISTILL, METHODS

from kdexp.compute.machine import Machine, machine
from kdexp.distill.base import DistillMethod
from kdexp.errors import UsageError
from kdexp.evaluate import evaluate
from kdexp.experiment.data import load_data, train_batches
from kdexp.experiment.networks import build_network
from kdexp.experiment.objects import build_optimizer
from kdexp.models.wrn import WideResNet
from kdexp.teachers import teacher_forward
from kdexp.training import memory
from kdexp.training.learner import Learner
from kdexp.training.loop import fit
from kdexp.training.pretraining import Pretrainer
from kdexp.training.schedules import schedule
from kdexp.training.start import build_learner

CPU = Machine(torch.device("cpu"), None, True, False, torch.get_num_threads())
TEACHER = ("wrn16_1", 16, 1)


@pytest.fixture(scope="module")
def teacher():
    torch.manual_seed(0)
    return WideResNet(16, 1, 10, 8).eval()


class Trial:
    """Learners of some configurations on 64 digits, as Group makes them, without records."""

    def __init__(self, configs, teacher, epochs=2, hardware=CPU):
        self.config, self.epochs = configs[0], epochs
        self.data = load_data(self.config, hardware.device)
        labels = self.data.train.labels
        self.learners = [build_learner(config, hardware, teacher, labels) for config in configs]
        self.passes = {
            mode: teacher_forward(teacher, mode, hardware, self.config["batch_size"])
            for mode in ("eval", "batch_stats")
        }
        for learner in self.learners:
            if learner.method is not None and (plan := learner.method.pretraining()):
                batches = train_batches(self.config, self.data, "pretraining")
                before = Pretrainer(learner, plan)
                rows = fit([before], batches, self.passes, lambda epoch: 1.0, plan.epochs, None)
                learner.pretraining_losses = [row["train_loss"] for (row,) in rows]
                assert not before.failure, before.failure

    def rows(self, after_step=lambda: None):
        test = lambda student: evaluate(student, self.data.test, self.data.pixels)
        return fit(
            self.learners,
            train_batches(self.config, self.data),
            self.passes,
            schedule(self.config),
            self.epochs,
            test,
            after_step=after_step,
        )

    def train(self, **options):
        rows = [
            [{k: v for k, v in row.items() if k != "seconds"} if row else None for row in epoch]
            for epoch in self.rows(**options)
        ]
        return [list(each) for each in zip(*rows)], [
            copy.deepcopy(learner.student.state_dict()) for learner in self.learners if not learner.failure
        ]


def build(config, teacher, data):
    return build_learner(config, CPU, teacher, data.train.labels)


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_methods_of_one_seed_start_from_one_student_and_see_the_same_batches(tiny, teacher):
    seen = []
    for name in DISTILL:
        config = tiny(f"distill={name}", "seed=3")
        data = load_data(config, CPU.device)
        student = build(config, teacher, data).student.state_dict()
        batches = train_batches(config, data).epoch(0)
        seen.append((student, [next(batches) for _ in range(3)]))
    for student, batches in seen[1:]:
        assert equal(student, seen[0][0])
        assert all(torch.equal(a, b) for one, other in zip(batches, seen[0][1]) for a, b in zip(one, other))
    other = build(tiny("distill=none", "seed=4"), teacher, data).student.state_dict()
    assert not equal(other, seen[0][0])


def test_alone_equals_together(tiny, teacher):
    """Weights and numbers of each method in a group of all are bitwise those it has alone."""
    configs = [tiny(f"distill={name}") for name in DISTILL]
    rows, weights = Trial(configs, teacher).train()
    for config, together, weight in zip(configs, rows, weights):
        (alone,), (weight_alone,) = Trial([config], teacher).train()
        assert alone == together, config["distill"]["name"]
        assert equal(weight_alone, weight), config["distill"]["name"]


def test_compiled_alone_equals_together_run_after_run(tiny, teacher):
    """compile=true on the CPU: the same bits alone, in a group and again, as deterministic=true promises."""
    compiled = CPU._replace(compile=True)
    configs = [tiny(f"distill={name}", "epochs=1") for name in ("none", "fn", "od")]
    rows, weights = Trial(configs, teacher, 1, compiled).train()
    assert Trial(configs, teacher, 1, compiled).train()[0] == rows
    for config, together, weight in zip(configs, rows, weights):
        (alone,), (weight_alone,) = Trial([config], teacher, 1, compiled).train()
        assert alone == together and equal(weight_alone, weight), config["distill"]["name"]
    (eager,), _ = Trial(configs[:1], teacher, 1).train()
    assert eager[0]["train_loss"] == pytest.approx(rows[0][0]["train_loss"], rel=1e-3)


class Stop(Exception):
    pass


@pytest.mark.parametrize("steps", [1, 3, 4, 6])
def test_going_on_after_a_stop_is_exact(tiny, teacher, steps):
    """Stopped between any two steps, saved, loaded into new objects: the same rows and weights. 4 steps are an
    epoch."""
    configs = [tiny(f"distill={name}") for name in ("none", "fn", "od", "crd", "ft", "reviewkd")]
    expected = Trial(configs, teacher).train()
    first, count = Trial(configs, teacher), iter(range(1, 1000))

    def stop():
        if next(count) == steps:
            raise Stop

    with pytest.raises(Stop):
        kept = []
        for rows in first.rows(after_step=stop):
            kept.append(rows)
    second = Trial(configs, teacher)
    for old, new in zip(first.learners, second.learners):
        new.load_state_dict(copy.deepcopy(old.state_dict()))
    rows, weights = second.train()
    for i in range(len(configs)):
        assert rows[i] == expected[0][i][len(kept) :]
        assert equal(weights[i], expected[1][i])


@pytest.mark.parametrize("name", METHODS)
def test_every_method_learns(tiny, teacher, name):
    """The training loss falls over ten epochs, and that of a pretraining; connectors move, the teacher does not. A
    method that keeps a memory of the images measures with another one each epoch: there, the loss of the labels."""
    before, config = copy.deepcopy(teacher.state_dict()), tiny(f"distill={name}", "recipe.lr=0.02")
    trial = Trial([config], teacher, epochs=10)
    connectors = build(config, teacher, trial.data).method.state_dict()
    (rows,), _ = trial.train()
    losses = getattr(trial.learners[0], "pretraining_losses", [1, 0])
    assert losses[-1] < losses[0]
    measure = "train_loss" if type(trial.learners[0].method).begin is DistillMethod.begin else "ce_loss"
    assert rows[-1][measure] < rows[0][measure]
    assert not connectors or not equal(connectors, trial.learners[0].method.state_dict())
    assert equal(before, teacher.state_dict())
    row = rows[0]
    assert row["train_loss"] == pytest.approx(row["ce_loss"] + row["distill_loss"], rel=1e-5)


def test_connectors_are_no_part_of_the_student(tiny, teacher):
    configs = [tiny(f"distill={name}") for name in ("none", "fn")]
    plain, fitted = (build(config, teacher, load_data(config, CPU.device)) for config in configs)
    assert plain.student.state_dict().keys() == fitted.student.state_dict().keys()
    trained = {id(p) for group in fitted.optimizer.param_groups for p in group["params"]}
    assert {id(p) for p in fitted.method.parameters()} < trained
    assert fitted.state_dict()["method"]


def test_a_kd_term_is_added(tiny, teacher):
    """SP + 0.5 KD: the logged loss is that of SP plus half of KD's on the first step."""

    def first_loss(*overrides):
        return next(Trial([tiny("batch_size=64", "optimizer.lr=1e-9", *overrides)], teacher, 1).rows())[0][
            "distill_loss"
        ]

    sp, kd = first_loss("distill=sp"), first_loss("distill=kd", "distill.weight=1")
    assert first_loss("distill=sp", "distill.kd_weight=0.5") == pytest.approx(sp + 0.5 * kd, rel=1e-5)


def test_one_that_diverges_or_raises_ends_alone(tiny, teacher):
    configs = [tiny("distill=none"), tiny("distill=kd", "optimizer.lr=1e30"), tiny("distill=sp")]
    trial = Trial(configs, teacher)

    def broken(student, teacher):
        raise RuntimeError("a method of mine")

    trial.learners[2].method.forward = broken
    kept = [weakref.ref(learner.student) for learner in trial.learners]
    rows, weights = trial.train()
    gc.collect()
    assert [reference() is not None for reference in kept] == [True, False, False]  # their memory is given back
    assert trial.learners[0].failure is None and rows[0] == Trial([configs[0]], teacher).train()[0][0]
    state, line, _ = trial.learners[1].failure
    assert state == "diverged" and line == "diverged at epoch 1 step 2: the loss is not finite"
    state, line, trace = trial.learners[2].failure
    assert state == "failed" and "a method of mine" in line and "Traceback" in trace and rows[2] == [None, None]


def test_schedule_keeps_its_shape(hydra):
    def factors(*overrides):
        config = hydra(*overrides)
        return [round(schedule(config)(epoch), 9) for epoch in range(config["epochs"])]

    crd = factors()
    assert len(crd) == 240 and (crd[149], crd[150], crd[179], crd[180], crd[209], crd[210]) == (
        1,
        0.1,
        0.1,
        0.01,
        0.01,
        0.001,
    )
    assert factors("epochs=24") == crd[::10]
    wrn = factors("recipe=wrn200")
    assert (wrn[59], wrn[60], wrn[119], wrn[120], wrn[160]) == (1, 0.2, 0.2, 0.04, 0.008)
    assert [factors("recipe=od200")[e] for e in (99, 100, 150)] == [1, 0.1, 0.01]


def test_an_optimizer_need_not_be_fused_and_says_what_it_refuses(hydra):
    config, trained = hydra("distill=none"), [torch.nn.Parameter(torch.zeros(1))]
    assert build_optimizer(config, trained).defaults["fused"]
    plain = config | {"optimizer": {"name": "rprop", "_target_": "torch.optim.Rprop", "lr": 0.1}}
    assert isinstance(build_optimizer(plain, trained), torch.optim.Rprop)
    with pytest.raises(UsageError, match="sgd: Nesterov momentum requires a momentum"):
        build_optimizer(hydra("optimizer.nesterov=true", "optimizer.momentum=0"), trained)


def test_compile_is_decided_by_the_settings_alone(hydra, monkeypatch):
    """Long runs on CUDA are compiled, whatever the group and whatever is left, unless bits are promised."""
    monkeypatch.setattr("kdexp.compute.machine.device_of", lambda config: torch.device(config["device"]))
    monkeypatch.setattr("kdexp.compute.machine.can_compile", lambda device: True)
    decided = lambda *overrides: machine(hydra(*overrides), 50_000).compile
    assert decided("device=cuda") and not decided("device=cuda", "epochs=6") and decided("device=cuda", "epochs=7")
    assert not decided("device=cuda", "deterministic=true") and not decided("device=cuda", "compile=false")
    assert not decided("device=cpu") and decided("device=cpu", "compile=true", "epochs=1")


def test_without_a_compiler_it_goes_on_and_says_so_once(hydra, monkeypatch, capsys):
    from kdexp.compute import machine as module

    def broken(function):
        raise RuntimeError("no C++ compiler\nmore")

    module.can_compile.cache_clear()
    monkeypatch.setattr(torch, "compile", broken)
    assert not machine(hydra("device=cpu", "compile=true"), 100).compile
    assert not machine(hydra("device=cpu", "compile=true"), 100).compile
    module.can_compile.cache_clear()
    told = capsys.readouterr().err
    assert told.count("compile: not possible here, going on without (RuntimeError: no C++ compiler)") == 1


def test_memory_caps_a_group(hydra):
    """A resnet32 keeps four times its weights; its pass at batch 64 takes what autograd saves, seen on the CPU as well."""
    config = hydra("dataset=cifar100", "student=resnet32")
    kept, taken = memory.student_bytes(config)
    student = build_network(config["model"]["student"])
    saved = {}

    def note(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = student(torch.randn(64, 3, 32, 32))
    weights = sum(p.nbytes for p in student.parameters())
    assert output.logits.shape == (64, 100) and kept == 4 * weights
    assert taken - weights == pytest.approx(2 * sum(saved.values()), rel=0.05)
    assert memory.how_many(config, None) is None and memory.how_many(config, 0) == 1
    assert memory.how_many(config, int((taken + 10.5 * kept) / 0.8)) == 10


def test_evaluate_by_hand(teacher):
    from kdexp.datasets.batches import Pixels
    from kdexp.datasets.digits import digits

    data, pixels = digits()[1], Pixels([0.3] * 3, [0.4] * 3)
    score = evaluate(teacher, data, pixels, batch_size=128)
    with torch.no_grad():
        logits = teacher((data.images / 255 - 0.3) / 0.4).logits
    assert score.predictions.tolist() == logits.argmax(1).tolist()
    right = [label in logits[i].topk(5).indices for i, label in enumerate(data.labels)]
    assert score.top5 == pytest.approx(100 * sum(right) / 500)
    assert score.acc == pytest.approx(100 * (logits.argmax(1) == data.labels).double().mean().item())
    assert score.loss == pytest.approx(torch.nn.functional.cross_entropy(logits, data.labels).item(), rel=1e-5)


def test_learner_works_without_a_configuration():
    """A notebook user's loop: objects, no files."""
    from kdexp.datasets.batches import Pixels, TrainBatches
    from kdexp.datasets.digits import digits

    train, test = digits()
    student, pixels = WideResNet(10, 1, 10, 8), Pixels([0.3] * 3, [0.4] * 3)
    learner = Learner(student, torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9))
    batches = TrainBatches(train.first(200), pixels, 20, 1, 1, "constant", False)
    rows = [
        rows[0] for rows in fit([learner], batches, {}, lambda epoch: 1.0, 4, lambda net: evaluate(net, test, pixels))
    ]
    assert rows[-1]["test_acc"] > 40 and rows[-1]["train_loss"] < rows[0]["train_loss"]
