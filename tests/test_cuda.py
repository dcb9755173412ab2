"""The same promises on CUDA, if available: a group matches its single runs within a tolerance, bitwise if deterministic."""

import subprocess
import sys

import pytest
import torch
from conftest import DISTILL
from test_train import Trial, equal

from kdexp import ROOT
from kdexp.compute import graph
from kdexp.compute.machine import Machine, prepare_torch
from kdexp.models.wrn import WideResNet

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
MODES = {
    "fp32": (None, False, False),
    "bf16": (torch.bfloat16, False, False),
    "deterministic": (None, True, False),
    "compiled": (torch.bfloat16, False, True),
    "graph": (torch.bfloat16, False, False, True),
    "deterministic graph": (None, True, False, True),
    "compiled graph": (torch.bfloat16, False, True, True),
}


@pytest.fixture(params=MODES)
def hardware(request):
    half, deterministic, compiled, *graph = MODES[request.param]
    machine = Machine(torch.device("cuda"), half, deterministic, compiled, torch.get_num_threads(), *graph)
    prepare_torch(machine)
    yield machine
    prepare_torch(Machine(torch.device("cpu"), None, True, False, torch.get_num_threads()))


def trained(configs, teacher, epochs, hardware):
    """(rows, weights) of each learner, none of which has failed."""
    trial = Trial(configs, teacher, epochs, hardware)
    rows, weights = trial.train()
    assert not [learner.failure for learner in trial.learners if learner.failure]
    assert len(rows) == len(weights) == len(configs)
    return rows, weights


def test_a_group_equals_its_single_runs_on_cuda(tiny, hardware):
    torch.manual_seed(0)
    teacher = WideResNet(16, 1, 10, 8).eval().to(hardware.device)
    configs = [tiny(f"distill={name}", "device=cuda", "recipe.lr=0.02") for name in ("none", "kd", "nst", "od")]
    rows, weights = trained(configs, teacher, 2, hardware)
    for config, together, weight in zip(configs, rows, weights):
        (alone,), (weight_alone,) = trained([config], teacher, 2, hardware)
        if hardware.deterministic:
            assert alone == together and equal(weight_alone, weight)
        assert alone[0]["train_loss"] == pytest.approx(together[0]["train_loss"], rel=0.02)


def test_cuda_agrees_with_the_cpu(tiny, hardware):
    """The first epoch's loss, from the same weights and batches."""
    losses = []
    for machine in (Machine(torch.device("cpu"), None, True, False, 1), hardware):
        torch.manual_seed(0)
        teacher = WideResNet(16, 1, 10, 8).eval().to(machine.device)
        (rows,), _ = trained([tiny("distill=sp", f"device={machine.device}", "optimizer.lr=1e-6")], teacher, 1, machine)
        losses.append(rows[0]["train_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3 if hardware.half is None else 0.05)


@pytest.mark.parametrize("name", DISTILL)
@pytest.mark.parametrize("deterministic", [False, True])
def test_a_captured_run_equals_a_usual_one_on_cuda(tiny, name, deterministic):
    """In float32; to the last bit if deterministic. What cannot be captured is trained as usual."""
    torch.manual_seed(0)
    usual = Machine(torch.device("cuda"), None, deterministic, False, torch.get_num_threads())
    teacher = WideResNet(16, 1, 10, 8).eval().to(usual.device)
    config, runs = tiny(f"distill={name}", "device=cuda", "batch_size=10", "recipe.lr=0.02"), []
    for hardware in (usual, usual._replace(graph=True)):
        prepare_torch(hardware)
        (rows,), (weights,) = trained([config], teacher, 2, hardware)
        runs.append((rows, weights))
    (rows, weights), (again, weights_again) = runs
    assert not deterministic or (again == rows and equal(weights_again, weights))
    assert [row["train_loss"] for row in again] == pytest.approx([row["train_loss"] for row in rows], rel=0.02)


def test_the_students_of_a_group_are_captured_on_cuda(tiny, capsys):
    """The seven methods and the baseline, and none of them goes on without its graph."""
    torch.manual_seed(0)
    hardware = Machine(torch.device("cuda"), None, False, False, torch.get_num_threads(), True)
    teacher = WideResNet(16, 1, 10, 8).eval().to(hardware.device)
    names = ("none", "kd", "fn", "nst", "at", "rkd", "sp", "od")
    trial = Trial([tiny(f"distill={name}", "device=cuda", "batch_size=10") for name in names], teacher, 2, hardware)
    trial.train()
    assert all(learner.graph and learner.graph.captured for learner in trial.learners), capsys.readouterr().err


def test_what_waits_is_noticed_before_a_capture():
    device, values = torch.device("cuda"), torch.ones(3, device="cuda")
    with graph.waits(device) as told:
        values * 2
    assert not told
    with graph.waits(device) as told:
        values.sum().item()
    assert told


FAILING = """
import pytest, torch
from kdexp.compute import graph

values, before = torch.ones(3, device="cuda"), torch.cuda.current_stream()
with pytest.raises(RuntimeError):
    graph.cuda_graph(lambda: values.sum().item(), torch.cuda.Stream())
assert torch.cuda.current_stream() == before
replay = graph.cuda_graph(lambda: values.mul_(2), torch.cuda.Stream())
replay()
torch.cuda.synchronize()
assert values.tolist() == [2, 2, 2]
"""


def test_a_capture_that_fails_leaves_no_trace():
    """In a process of its own: if it did, the tests after it would suffer."""
    done = subprocess.run([sys.executable, "-c", FAILING], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_adamw_is_captured_on_cuda(tiny, capsys):
    hardware = Machine(torch.device("cuda"), None, False, False, torch.get_num_threads(), True)
    prepare_torch(hardware)
    teacher = WideResNet(16, 1, 10, 8).eval().to(hardware.device)
    trial = Trial([tiny("distill=kd", "device=cuda", "batch_size=10", "optimizer=adamw")], teacher, 2, hardware)
    trial.train()
    assert trial.learners[0].graph and trial.learners[0].graph.captured, capsys.readouterr().err
