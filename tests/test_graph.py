"""compile=graph without a GPU: `Tape` does on the CPU what a CUDA graph does, so that the same code is tested."""

import contextlib

import pytest
import torch
from conftest import DISTILL
from test_train import CPU, Trial, equal
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kdexp.compute.graph import WARMUP, ForwardGraph
from kdexp.compute.machine import Machine, machine
from kdexp.errors import UsageError
from kdexp.models.wrn import WideResNet
from kdexp.training import step_graph
from kdexp.training.step_graph import StepGraph

aten = torch.ops.aten
READS = (aten._local_scalar_dense.default, aten.nonzero.default, aten.equal.default, aten.masked_select.default)


class Tape(TorchDispatchMode):
    """Records operations with their tensors and numbers. `replay` does the same operations on the same tensors. Refuses what
    would make a GPU wait: Python reads a value, or sends one. Unlike a CUDA graph it runs the operations while it records
    them, so the first replay does nothing."""

    def __init__(self):
        super().__init__()
        self.operations, self.fresh = [], True

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        masked = function is aten.index.Tensor and any(one is not None and one.dtype == torch.bool for one in args[1])
        if function in READS or masked:
            raise RuntimeError(f"reads a value: {function}")
        if function is aten.lift_fresh.default:
            raise RuntimeError("sends a value")
        output = function(*args, **(kwargs or {}))
        self.operations.append((function, args, kwargs or {}, output))
        return output

    @torch.no_grad()
    def replay(self):
        if self.fresh:
            self.fresh = False
            return
        for function, args, kwargs, output in self.operations:
            again = function(*args, **kwargs)
            for old, new in zip(tree_leaves(output), tree_leaves(again)):
                # the same address: a view, or changed in place
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class Tapes(list):
    """Every capture, in order."""

    def __call__(self, function, stream=None):
        tape = Tape()
        with tape:
            function()
        self.append(tape)
        return tape.replay


@pytest.fixture(scope="module")
def teacher():
    torch.manual_seed(0)
    return WideResNet(16, 1, 10, 8).eval()


def captured(configs, teacher, tapes, epochs=2):
    """A Trial whose steps are recorded on tapes."""
    trial = Trial(configs, teacher, epochs)
    size = trial.config["batch_size"]
    trial.passes = {mode: ForwardGraph(view, size, tapes) for mode, view in trial.passes.items()}
    for learner in trial.learners:
        learner.graph = StepGraph(learner, size, tapes)
    return trial


SMALL = ("batch_size=10", "recipe.lr=0.02")  # 64 images: six full batches of an epoch, and one of four images


@pytest.mark.parametrize("name", DISTILL)
def test_a_captured_run_equals_a_usual_one(tiny, teacher, name):
    """Two epochs with different learning rates; whatever of it can be captured. Recording operations changes the last digits of
    ReviewKD's gradients, which grow to 1e-4 in its weights on some CPUs; a learning rate that is missed moves them by 1e-2."""
    config = tiny(f"distill={name}", *SMALL, "recipe.drops=[0.5]")
    (rows,), (weights,) = Trial([config], teacher).train()
    (again,), (weights_again,) = captured([config], teacher, Tapes()).train()
    for old, new in zip(rows, again, strict=True):
        assert new["train_loss"] == pytest.approx(old["train_loss"], rel=1e-5)
        assert new["test_loss"] == pytest.approx(old["test_loss"], rel=1e-5)
    for key, value in weights.items():
        torch.testing.assert_close(weights_again[key], value, rtol=1e-3, atol=1e-3)


def test_the_seven_methods_and_the_baseline_are_captured_in_a_group(tiny, teacher, capsys):
    """One graph for each teacher mode, and for each student one for each learning rate."""
    names = ("none", "kd", "fn", "nst", "at", "rkd", "sp", "od")
    configs = [tiny(f"distill={name}", *SMALL, "recipe.drops=[0.5]") for name in names]
    rows, weights = Trial(configs, teacher).train()
    tapes = Tapes()
    trial = captured(configs, teacher, tapes)
    again, weights_again = trial.train()
    assert again == rows and all(map(equal, weights_again, weights))
    assert len(tapes) == 2 + 2 * len(names) and "not captured" not in capsys.readouterr().err
    assert all(learner.graph.seen == 12 > 2 * WARMUP for learner in trial.learners)
    output = tree_leaves(trial.passes["eval"].captured.output)  # is read where it is, not copied for each student
    read = trial.learners[names.index("kd")].graph.captured.inputs
    assert all(any(one is other for other in read) for one in output)


def test_what_a_network_does_after_a_step_is_captured(tiny, teacher, capsys):
    """The limit on an MLP's weights."""
    words = ("student=mlp", "model.student.hidden=[20]", "model.student.max_norm=0.4", "recipe.lr=0.2", "batch_size=10")
    config = tiny("distill=kd", *words)
    again, weights = captured([config], teacher, Tapes()).train()
    plain, plain_weights = Trial([config], teacher).train()
    assert again == plain and all(map(equal, weights, plain_weights)) and "not captured" not in capsys.readouterr().err
    assert weights[0]["layers.0.weight"].norm(dim=1).max() == pytest.approx(0.4, rel=1e-6)


def test_a_method_told_the_progress_is_captured_in_each_epoch(tiny, teacher):
    tapes = Tapes()
    captured([tiny("distill=dkd", *SMALL)], teacher, tapes, epochs=3).train()
    assert len(tapes) == 1 + 3


def test_a_method_whose_weight_ends_needs_no_teacher_any_more(tiny, teacher, capsys):
    """Its steps are captured again, without the teacher's output."""
    config, tapes = tiny("distill=kd", "distill.until=0.5", *SMALL), Tapes()
    again, weights = captured([config], teacher, tapes).train()
    plain, plain_weights = Trial([config], teacher).train()
    assert again == plain and all(map(equal, weights, plain_weights)) and len(again[0]) == 2
    assert len(tapes) == 3 and "not captured" not in capsys.readouterr().err


def with_dropout(trial):
    for learner in trial.learners:
        learner.student.fc = torch.nn.Sequential(torch.nn.Dropout(0.3), learner.student.fc)
    return trial


@pytest.mark.parametrize(
    "words, change, why",
    [
        (("distill=kd",), with_dropout, "a step of KD is not captured (it draws random numbers)"),
        (("distill=none",), with_dropout, "a step of the baseline is not captured (it draws random numbers)"),
        (("distill=crd", "distill.negatives=16"), None, "a step of CRD is not captured (it draws random numbers)"),
    ],
)
def test_what_a_graph_cannot_repeat_is_trained_as_usual_with_a_line(tiny, teacher, capsys, words, change, why):
    config, change = tiny(*words, *SMALL), change or (lambda trial: trial)
    again, weights = change(captured([config], teacher, Tapes())).train()
    assert capsys.readouterr().err.count(f"compile=graph: {why}") == 1
    plain, plain_weights = change(Trial([config], teacher)).train()
    assert again == plain and all(map(equal, weights, plain_weights))


def test_a_step_that_reads_a_value_is_not_captured(tiny, teacher, capsys):
    """torch's AveragedModel asks whether this is its first step. (The tape has run what came before; a CUDA graph has not.)"""
    tapes = Tapes()
    trial = captured([tiny("distill=kd", "recipe.ema=0.9", *SMALL)], teacher, tapes)
    rows, _ = trial.train()
    assert "compile=graph: a step of KD is not captured (reads a value" in capsys.readouterr().err
    assert len(tapes) == 1 and trial.learners[0].graph.refused and rows[0][1]["test_loss"] > 0


def test_a_step_that_waits_is_not_even_tried(tiny, teacher, capsys, monkeypatch):
    """As CUDA's debug mode would report it."""

    @contextlib.contextmanager
    def waits(device):
        yield ["called a synchronizing CUDA operation"]

    monkeypatch.setattr(step_graph, "waits", waits)
    config, tapes = tiny("distill=none", *SMALL), Tapes()
    again, weights = captured([config], teacher, tapes).train()
    told = "compile=graph: a step of the baseline is not captured (Python waits for a value in it)"
    assert capsys.readouterr().err.count(told) == 1 and not tapes
    plain, plain_weights = Trial([config], teacher).train()
    assert again == plain and all(map(equal, weights, plain_weights))


def test_a_run_that_is_stopped_resumes_to_the_same_bits(tiny, teacher):
    """In the middle of an epoch: the resumed run warms up and captures again."""
    config = tiny("distill=sp", *SMALL)
    rows, weights = captured([config], teacher, Tapes()).train()
    stopped, steps = captured([config], teacher, Tapes()), []

    def stop():
        steps.append(1)
        if len(steps) == 11:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(stopped.rows(stop))
    resumed = captured([config], teacher, Tapes())
    resumed.learners[0].load_state_dict(stopped.learners[0].state_dict())
    again, weights_again = resumed.train()
    assert again[0][-1] == rows[0][-1] and equal(weights_again[0], weights[0])


def test_the_tape_repeats_operations_and_refuses_waiting():
    x, y, tapes = torch.ones(2), torch.zeros(2), Tapes()
    replay = tapes(lambda: y.add_(x * 2))
    x.fill_(3)
    replay()  # ran while it was recorded
    assert y.tolist() == [2, 2]
    replay()
    assert y.tolist() == [8, 8]
    for waits in (lambda: x.sum().item(), lambda: x[x > 1], lambda: bool((x > 1).all()), lambda: torch.tensor(1.0)):
        with pytest.raises(RuntimeError, match="a value"):
            tapes(waits)


def test_it_is_asked_for_and_needs_cuda(hydra, monkeypatch):
    with pytest.raises(UsageError, match="compile=graph: CUDA graphs need a CUDA device, and this run is on cpu"):
        machine(hydra("device=cpu", "compile=graph"), 100)
    monkeypatch.setattr("kdexp.compute.machine.device_of", lambda config: torch.device(config["device"]))
    hardware = machine(hydra("device=cuda", "compile=graph"), 50_000)
    assert hardware.graph and not hardware.compile and hardware.execution == "graph"
    assert not machine(hydra("device=cuda", "deterministic=true"), 50_000).graph and CPU.execution == "eager"
    assert Machine(torch.device("cpu"), None, True, True, 1, True).execution == "compiled graph"
