"""Every method of conf/distill: against a slow version of its formula, its properties, edge cases, and between any two
networks."""

import copy
import math
import re

import numpy as np
import pytest
import torch
from conftest import METHODS
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from kdexp.distill.ab import ab_loss
from kdexp.distill.at import at_loss
from kdexp.distill.base import Batch, average_pool, warmed_up
from kdexp.distill.cc import cc_loss
from kdexp.distill.controls import Uniform, permuted, shuffled
from kdexp.distill.crd import CRD, contrast_loss
from kdexp.distill.dist import dist_loss
from kdexp.distill.dkd import dkd_loss
from kdexp.distill.fn import FN, hint_loss
from kdexp.distill.fsp import fsp_loss
from kdexp.distill.ft import factor_loss
from kdexp.distill.kd import kd_loss
from kdexp.distill.kdsvd import svd_loss
from kdexp.distill.ls import standardise
from kdexp.distill.nst import nst_loss
from kdexp.distill.od import od_margin, partial_l2
from kdexp.distill.pkt import pkt_loss
from kdexp.distill.reviewkd import hcl_loss
from kdexp.distill.rkd import rkd_angle_loss, rkd_distance_loss
from kdexp.distill.sp import sp_loss
from kdexp.distill.vid import vid_loss
from kdexp.errors import UsageError
from kdexp.experiment.networks import build_network
from kdexp.experiment.objects import build_method, check_objects
from kdexp.models import Output, SignedTap, Tap, Taps
from kdexp.teachers import teacher_view

draws = settings(max_examples=15, deadline=None)
seeds, small = st.integers(0, 10**6), st.integers(1, 4)


def normal(seed, *shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def same(ours, slow):
    torch.testing.assert_close(ours, torch.tensor(slow, dtype=torch.float64), rtol=1e-9, atol=1e-12)


def softmax(z):
    powers = [math.exp(v - max(z)) for v in z]
    return [p / sum(powers) for p in powers]


@draws
@given(seeds, small, st.integers(2, 5), st.floats(0.5, 8))
def test_kd_slow(seed, batch, classes, temperature):
    s, t = normal(seed, batch, classes) * 3, normal(seed + 1, batch, classes) * 3
    total = 0.0
    for b in range(batch):
        p, q = softmax([v / temperature for v in t[b].tolist()]), softmax([v / temperature for v in s[b].tolist()])
        total += sum(pk * math.log(pk / qk) for pk, qk in zip(p, q))
    same(kd_loss(s, t, temperature), temperature**2 * total / batch)
    assert kd_loss(t, t, temperature).abs() < 1e-12


@draws
@given(seeds, small, small, small)
def test_fn_slow(seed, batch, channels, size):
    s, t = normal(seed, batch, channels, size, size), normal(seed + 1, batch, channels, size, size)
    squares = [(a - b) ** 2 for a, b in zip(s.flatten().tolist(), t.flatten().tolist())]
    same(hint_loss(s, t), sum(squares) / len(squares))


def slow_pool(x, size):
    """Average of equal square windows."""
    step = x.shape[-1] // size
    return np.array(
        [
            [
                [
                    [x[b, c, i * step : (i + 1) * step, j * step : (j + 1) * step].mean() for j in range(size)]
                    for i in range(size)
                ]
                for c in range(x.shape[1])
            ]
            for b in range(x.shape[0])
        ]
    )


@draws
@given(seeds, small, small, small, st.integers(1, 3), st.sampled_from([(1, 1), (2, 1), (1, 2)]))
def test_nst_and_at_slow(seed, batch, c_s, c_t, size, ratio):
    s, t = (
        normal(seed, batch, c_s, size * ratio[0], size * ratio[0]),
        normal(seed + 1, batch, c_t, size * ratio[1], size * ratio[1]),
    )
    ps, pt = slow_pool(s.numpy(), size), slow_pool(t.numpy(), size)
    nst, at = 0.0, 0.0
    for b in range(batch):
        units = [[m.ravel() / np.linalg.norm(m) for m in maps[b]] for maps in (ps, pt)]
        mean = lambda xs, ys: sum(float(x @ y) ** 2 for x in xs for y in ys) / len(xs) / len(ys)
        nst += (mean(units[1], units[1]) + mean(units[0], units[0]) - 2 * mean(units[1], units[0])) / batch
        maps = [(m[b] ** 2).mean(0).ravel() for m in (ps, pt)]
        at += sum((a / np.linalg.norm(maps[0]) - c / np.linalg.norm(maps[1])) ** 2 for a, c in zip(*maps)) / (
            batch * size * size
        )
    same(nst_loss(s, t), nst)
    same(at_loss(s, t), at)


@draws
@given(seeds, st.integers(2, 5), small, small)
def test_rkd_and_sp_slow(seed, batch, d_s, d_t):
    s, t = normal(seed, batch, d_s), normal(seed + 1, batch, d_t)
    huber = lambda x: 0.5 * x * x if abs(x) < 1 else abs(x) - 0.5
    relations = []
    for e in (s.numpy(), t.numpy()):
        distance = {(i, j): np.linalg.norm(e[i] - e[j]) for i in range(batch) for j in range(batch) if i != j}
        mean = sum(distance.values()) / len(distance)
        unit = lambda i, j: (e[j] - e[i]) / distance[i, j] if i != j else np.zeros(e.shape[1])
        angle = {
            (i, j, k): float(unit(i, j) @ unit(i, k)) for i in range(batch) for j in range(batch) for k in range(batch)
        }
        gram = e @ e.T
        relations.append(
            (
                {key: value / mean for key, value in distance.items()},
                angle,
                gram / np.linalg.norm(gram, axis=1, keepdims=True),
            )
        )
    (ds, cs, gs), (dt, ct, gt) = relations
    same(rkd_distance_loss(s, t), sum(huber(ds[key] - dt[key]) for key in ds) / batch**2)
    same(rkd_angle_loss(s, t), sum(huber(cs[key] - ct[key]) for key in cs) / batch**3)
    same(sp_loss(s, t), float(((gs - gt) ** 2).sum()) / batch**2)


@draws
@given(st.floats(-3, 3), st.floats(0.05, 2))
def test_od_margin_slow(mean, deviation):
    """Against the integral of the truncated normal, where no clipping applies."""
    x = np.linspace(mean - 12 * deviation, 0, 200_001) if mean < 12 * deviation else np.zeros(1)
    density = np.exp(-(((x - mean) / deviation) ** 2) / 2) / (deviation * math.sqrt(2 * math.pi))
    mass = np.trapezoid(density, x) if len(x) > 1 and x[0] < 0 else 0.0
    expected = np.trapezoid(density * x, x) / mass if mass > 0.001 else -3 * deviation
    if abs(mass - 0.001) > 1e-5:
        margin = od_margin(torch.tensor([-deviation], dtype=torch.float64), torch.tensor([mean], dtype=torch.float64))
        assert margin.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


@draws
@given(seeds, small, small)
def test_od_slow(seed, batch, channels):
    s, t, margin = (
        normal(seed, batch, channels, 2, 2),
        normal(seed + 1, batch, channels, 2, 2),
        -normal(seed + 2, 1, channels, 1, 1).abs(),
    )
    total = 0.0
    for index in np.ndindex(*s.shape):
        target = max(t[index].item(), margin[0, index[1], 0, 0].item())
        value = s[index].item()
        total += 0.0 if value <= target and target <= 0 else (value - target) ** 2
    same(partial_l2(s, t, margin), total)


@draws
@given(seeds, st.floats(0.1, 10))
def test_promised_properties(seed, scale):
    a, b = normal(seed, 4, 3, 4, 4), normal(seed + 1, 4, 3, 4, 4)
    for loss in (at_loss, nst_loss, sp_loss):
        assert loss(a, a) < 1e-12  # zero at student = teacher
        torch.testing.assert_close(loss(a, b), loss(b, a))  # symmetric
        torch.testing.assert_close(loss(scale * a, b), loss(a, b))  # the scale of a feature does not matter
    e, f = a.flatten(1), b.flatten(1)
    for loss in (rkd_distance_loss, rkd_angle_loss):
        assert loss(e, e) < 1e-12
        torch.testing.assert_close(loss(e, f), loss(f, e))
        torch.testing.assert_close(loss(scale * e + 1.5, f), loss(e, f))  # nor shifts of an embedding
    channel_order = torch.randperm(3, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(nst_loss(a[:, channel_order], b), nst_loss(a, b))
    assert partial_l2(a, a, torch.full((1, 3, 1, 1), -1e9, dtype=torch.float64)) == 0


def gradient(loss, student, *rest):
    student = student.clone().requires_grad_()
    value = loss(student, *rest)
    assert value.isfinite()
    return torch.autograd.grad(value, student)[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_at_the_edges(dtype):
    e, f = (normal(seed, 6, 8).to(dtype) for seed in (0, 1))
    twins = e.clone()
    twins[4] = twins[2]
    maps, other = (normal(seed, 4, 5, 3, 3).to(dtype) for seed in (2, 3))
    dead_sample, dead_channel = maps.clone(), maps.clone()
    dead_sample[1], dead_channel[:, 2:4] = 0, 0
    dead_row, labels = e.clone(), torch.arange(6)
    dead_row[2] = 0
    standardised = lambda s, t: kd_loss(standardise(s), standardise(t), 2.0)
    neighbors_svd = lambda s, t: svd_loss([s, s], [t, t])
    cases = [
        (rkd_angle_loss, twins, f),
        (rkd_distance_loss, twins, f),
        (rkd_angle_loss, torch.zeros_like(e), f),
        (rkd_distance_loss, torch.zeros_like(e), f),
        (rkd_distance_loss, e[:1], f[:1]),
        (rkd_angle_loss, e[:1], f[:1]),
        (sp_loss, dead_sample, other),
        (sp_loss, maps[:1], other[:1]),
        (at_loss, dead_sample, other),
        (nst_loss, dead_channel, other),
        (nst_loss, torch.zeros_like(maps), other),
        (kd_loss, torch.ones_like(e), torch.ones_like(f), 4.0),
        (pkt_loss, dead_row, f),
        (pkt_loss, e[:1], f[:1]),
        (cc_loss, e[:1], f[:1]),
        (ab_loss, maps, other, 1.0),
        (factor_loss, dead_sample, other),
        (factor_loss, maps[:, :, :1, :1], other[:, :, :1, :1]),
        (vid_loss, maps, torch.full((5,), 1000.0, dtype=dtype), other),
        (dkd_loss, 1000 * e, f, labels, 1.0, 8.0, 4.0),
        (dkd_loss, e, 1000 * f, labels, 1.0, 8.0, 4.0),
        (dkd_loss, 1000 + e[:, :2], f[:, :2], labels % 2, 1.0, 8.0, 4.0),
        (dist_loss, torch.ones_like(e), f, 1.0, 1.0, 4.0),
        (dist_loss, e[:1].expand(6, -1), f, 1.0, 1.0, 4.0),
        (dist_loss, e, torch.ones_like(f), 1.0, 1.0, 4.0),
        (dist_loss, e[:1], f[:1], 1.0, 1.0, 4.0),
        (standardised, torch.ones_like(e), f),
        (neighbors_svd, dead_channel, other),
        (neighbors_svd, torch.zeros_like(maps), other),
        (neighbors_svd, torch.ones_like(maps), other),
        (neighbors_svd, torch.eye(9, dtype=dtype).view(1, 9, 3, 3).expand(4, 9, 3, 3), other.repeat(1, 2, 1, 1)[:, :9]),
        (contrast_loss, torch.full((2, 5), 1e-6, dtype=dtype), 50_000),
    ]
    for loss, *arguments in cases:
        limit = 1e6 if loss is contrast_loss else 2e3  # 1/score
        assert gradient(loss, *arguments).abs().max() < limit, loss.__name__
    margin = od_margin(torch.tensor([0.0, -0.0, 0.0]), torch.tensor([1.0, -2.0, 0.0]))
    assert margin.tolist() == [0.0, -2.0, 0.0]


MIXED = "kd hint nst at rkd_d rkd_a sp od pkt cc vid ab ft fsp kdsvd hcl dkd dist ls crd".split()


@pytest.mark.parametrize("name", MIXED)
def test_losses_are_float32_under_mixed_precision(name):
    """Half-precision features under autocast give the loss of the same features in float32."""
    maps, flat = (normal(0, 8, 6, 4, 4), normal(1, 8, 6, 4, 4)), (normal(2, 8, 30), normal(3, 8, 30))
    margin, labels = torch.full((1, 6, 1, 1), -0.5), torch.arange(8)
    several = lambda loss: lambda s, t: loss([s, s.relu()], [t, t.relu()])
    loss, (s, t), rest = {
        "pkt": (pkt_loss, flat, ()),
        "cc": (cc_loss, flat, ()),
        "vid": (lambda s, t: vid_loss(s, s[0, :, 0, 0], t), maps, ()),
        "ab": (ab_loss, maps, (1.0,)),
        "ft": (factor_loss, maps, ()),
        "fsp": (several(fsp_loss), maps, ()),
        "kdsvd": (several(svd_loss), maps, ()),
        "hcl": (several(hcl_loss), maps, ()),
        "dkd": (dkd_loss, flat, (labels, 1.0, 8.0, 4.0)),
        "dist": (dist_loss, flat, (1.0, 1.0, 4.0)),
        "ls": (lambda s, t: kd_loss(standardise(s), standardise(t), 2.0), flat, ()),
        "crd": (lambda s, t: contrast_loss(s.abs(), 50_000), flat, ()),
        "kd": (kd_loss, flat, (4.0,)),
        "hint": (hint_loss, maps, ()),
        "nst": (nst_loss, maps, ()),
        "at": (at_loss, maps, ()),
        "rkd_d": (rkd_distance_loss, flat, ()),
        "rkd_a": (rkd_angle_loss, flat, ()),
        "sp": (sp_loss, maps, ()),
        "od": (partial_l2, maps, (margin,)),
    }[name]
    s, t = s.bfloat16(), t.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = loss(s, t, *rest)
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, loss(s.float(), t.float(), *rest))


PAIRS = [
    ("wrn16_1", "resnet8"),
    ("resnet14", "resnet8"),
    ("wrn16_2", "wrn16_1"),
    ("resnet8x4", "wrn16_1"),
    ("wrn16_1", "wrn16_1"),
    ("vgg8", "mobilenetv2"),
    ("resnet8x4", "shufflenetv2"),
]
SIZES = [(32, 32), (32, 16), (16, 32), (32, 24), (24, 32)]


def pair(config, sizes=(32, 32)):
    """(student, teacher, method) on images of these sizes; the test is skipped if the method refuses the pair."""
    networks = [
        build_network(config["model"][role] | {"image_size": size}, config["plugins"])
        for role, size in zip(("student", "teacher"), sizes)
    ]
    student, teacher = networks
    try:
        method = build_method(config, student, teacher)
    except UsageError as error:
        assert "\n" not in str(error) and re.match(r"\w+: needs ", str(error))
        pytest.skip(str(error))
    method.begin(LABELS)
    return student, teacher, method


LABELS = torch.arange(12) % 10  # of the training images


def whole_loss(method, student, teacher):
    """The loss that is minimized, in training and in pretraining."""
    count = len(student.logits)
    loss = method.loss(student, teacher, Batch(LABELS[:count], torch.arange(count), 1.0))
    if plan := method.pretraining():
        loss = loss + plan.loss(student if plan.trains_student else None, teacher)
    return loss


@pytest.mark.parametrize("teacher, student", PAIRS, ids="-".join)
@pytest.mark.parametrize("name", METHODS)
def test_any_pair(hydra, name, teacher, student):
    """Finite scalar; the gradient reaches student and connectors, never the teacher, whose buffers stay; batch of 1;
    channels_last."""
    student, teacher, method = pair(
        hydra("dataset=cifar10", f"distill={name}", f"teacher={teacher}", f"student={student}")
    )
    before = copy.deepcopy(teacher.state_dict())
    view = teacher_view(teacher, method.teacher_mode)
    for images in (
        torch.randn(4, 3, 32, 32),
        torch.randn(1, 3, 32, 32),
        torch.randn(4, 3, 32, 32).contiguous(memory_format=torch.channels_last),
    ):
        with torch.no_grad():
            target = view(images)
        loss = whole_loss(method, student.train()(images), target)
        assert loss.shape == () and loss.isfinite()
        student.zero_grad()
        method.zero_grad()
        loss.backward()
        touched = [p for p in student.parameters() if p.grad is not None and p.grad.abs().sum() > 0]
        assert touched or len(images) == 1
        assert all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters())
    assert all(p.grad is None for p in [*teacher.parameters(), *view.parameters()])
    assert all(torch.equal(before[key], value) for key, value in teacher.state_dict().items())
    assert all(torch.equal(before[key], value) for key, value in view.state_dict().items())


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_spatial_mismatch(hydra, name, sizes):
    """Feature maps of different sizes work, and a remark says how they were matched."""
    student, teacher, method = pair(
        hydra("dataset=cifar10", f"distill={name}", "teacher=wrn16_1", "student=resnet8"), sizes
    )
    images = (torch.randn(2, 3, size, size) for size in sizes)
    loss = whole_loss(method, *(network(x) for network, x in zip((student, teacher), images)))
    assert loss.isfinite()
    if name in ("kd", "fn", "nst", "at", "rkd", "sp", "od"):
        assert bool(method.remarks) == (sizes[0] != sizes[1] and name in ("fn", "nst", "at", "od"))


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_what_it_reads(hydra, name):
    """With the taps it names it works; a network that lacks one of them is refused when the method is built."""
    student, teacher, method = pair(
        hydra("dataset=cifar10", f"distill={name}", "teacher=wrn16_1", "student=resnet8"), (32, 32)
    )
    outputs = [network(torch.randn(4, 3, 32, 32)) for network in (student, teacher)]
    reads = [dict.fromkeys(taps) for taps in zip(*method.pairs)] or [{}, {}]
    only = [Output(logits, {tap: features[tap] for tap in taps}) for (logits, features), taps in zip(outputs, reads)]
    assert whole_loss(method, *only).isfinite()
    for tap in reads[0]:
        lacking = Taps("poor", {key: value for key, value in student.taps.items() if key != tap})
        with pytest.raises(ValueError, match=f"needs the tap {tap}, which poor does not have"):
            type(method)(lacking, teacher.taps)


def test_another_number_of_classes_is_refused(hydra):
    config = hydra("dataset=cifar10", "model.teacher.num_classes=100")
    with pytest.raises(UsageError, match="wrn16_4 has 100 classes and resnet32 has 10"):
        check_objects(config)


def test_batch_statistics_view():
    """The view normalizes with batch statistics, as in train mode, and no buffer of the teacher or the view changes."""
    from kdexp.models.wrn import WideResNet

    teacher, images = WideResNet(10, 1, 10), torch.randn(8, 3, 32, 32)
    before = copy.deepcopy(teacher.state_dict())
    view = teacher_view(teacher.eval(), "batch_stats")
    output = view(images).logits
    assert all(
        torch.equal(before[key], value) for source in (teacher, view) for key, value in source.state_dict().items()
    )
    assert not torch.equal(output, teacher(images).logits)
    assert torch.allclose(output, teacher.train()(images).logits, atol=1e-6)
    with pytest.raises(ValueError, match="eval or batch_stats"):
        teacher_view(teacher, "train")


@pytest.mark.parametrize(
    "student, teacher, expected",
    [(Tap(4, 8), Tap(8, 8), nn.Conv2d), (Tap(4, 16), Tap(8, 8), nn.Conv2d), (Tap(4, 4), Tap(8, 8), nn.ConvTranspose2d)],
)
@pytest.mark.parametrize("signed", [False, True])
def test_fn_regressor_has_a_relu_only_for_hints_that_are_never_negative(student, teacher, expected, signed):
    teacher = SignedTap(*teacher) if signed else teacher
    method = FN({"stage2": student}, {"stage2": teacher})
    assert type(method.regressor.conv) is expected and method.regressor.relu is not signed
    assert method.regressor(torch.randn(2, 4, student.size, student.size)).shape == (2, 8, 8, 8)
    assert FN({"stage2": student}, {"stage2": teacher}, relu=True).regressor.relu


class Largest(torch.utils._python_dispatch.TorchDispatchMode):
    """The number of elements of the largest tensor any operation makes."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def test_nst_stays_in_matrix_form():
    """Batch 64, wrn16_4 to resnet32: no tensor is larger than the features and the Gram matrices; the usual form has
    16 times these."""
    shapes = [(16, 64, 32), (32, 128, 16), (64, 256, 8)]
    for c_s, c_t, size in shapes:
        s = torch.randn(64, c_s, size, size, requires_grad=True)
        with Largest() as largest:
            nst_loss(s, torch.randn(64, c_t, size, size)).backward()
        assert largest.elements <= max(64 * c_t * size * size, 64 * c_t * c_t)


def pearson(student, teacher):
    """As in DIST: 0 for a student's row or column that is constant."""
    s, t = student - student.mean(), teacher - teacher.mean()
    norm = np.linalg.norm(s)
    return s @ t / (norm * np.linalg.norm(t) + 1e-8) if norm > 1e-6 else 0.0


@draws
@given(seeds, st.integers(2, 6), st.integers(2, 5), st.floats(0.5, 8))
@example(seed=128, batch=2, classes=2, temperature=1.0)  # nearly equal logits
@example(seed=304, batch=3, classes=2, temperature=0.5)  # nearly all of the probability in one class
@example(seed=963, batch=2, classes=5, temperature=0.5)  # hardly any of it in another one
def test_dkd_dist_and_ls_slow(seed, batch, classes, temperature):
    s, t = normal(seed, batch, classes) * 3, normal(seed + 1, batch, classes) * 3
    labels = torch.arange(batch) % classes
    soft = lambda rows: [softmax([v / temperature for v in row]) for row in rows.tolist()]
    kl = lambda p, q: sum(a * math.log(a / b) for a, b in zip(p, q))
    rows, target, others = list(zip(soft(s), soft(t), labels.tolist())), 0.0, 0.0
    for q, p, label in rows:
        rest = [[x for k, x in enumerate(one) if k != label] for one in (p, q)]
        p_rest, q_rest = map(sum, rest)  # 1 - p[label] would lose the digits of small probabilities
        target += kl([p[label], p_rest], [q[label], q_rest]) / batch
        others += kl(*([x / sum(one) for x in one] for one in rest)) / batch
    expected = torch.tensor(temperature**2 * (1.5 * target + 8 * others), dtype=torch.float64)
    torch.testing.assert_close(dkd_loss(s, t, labels, 1.5, 8.0, temperature), expected, rtol=1e-7, atol=1e-9)
    q, p = np.array(soft(s)), np.array(soft(t))
    between = 1 - np.mean([pearson(a, b) for a, b in zip(q, p)])
    within = 1 - np.mean([pearson(a, b) for a, b in zip(q.T, p.T)])
    same(dist_loss(s, t, 2.0, 3.0, temperature), temperature**2 * (2 * between + 3 * within))
    deviation = s.numpy().std(1, ddof=1, keepdims=True)  # in a row of nearly equal logits, the 1e-7 added to it counts
    z = lambda added: (s.numpy() - s.numpy().mean(1, keepdims=True)) / (deviation + added)
    np.testing.assert_allclose(standardise(s), z(1e-7), rtol=1e-5)
    np.testing.assert_allclose(standardise(2 * s + 5), z(0.5e-7), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("negatives", [3, 9, 12, 30])
def test_negatives_of_crd(negatives):
    """Of other classes, none twice where there are enough, else each equally often; each as likely; the same again."""
    labels = torch.tensor([0, 1, 2, 1, 0, 2, 2, 2, 1, 0, 3, 3, 2, 1])
    method = CRD({"embedding": Tap(4, 1)}, {"embedding": Tap(6, 1)}, dim=8, negatives=negatives)
    method.begin(labels)
    seen = torch.zeros(14, 14)
    for step in range(600):
        torch.manual_seed(step)
        chosen = method.draw(labels)
        assert chosen.shape == (14, negatives) and (labels[chosen] != labels[:, None]).all()
        for row, image in zip(chosen, range(14)):
            times = row.bincount(minlength=14)
            others = times[labels != labels[image]]
            assert others.max() - others.min() <= 1
            seen[image] += times
    torch.manual_seed(step)
    assert torch.equal(method.draw(labels), chosen)
    for image in range(14):
        others = seen[image][labels != labels[image]] / 600
        expected = negatives / len(others)
        assert (others - expected).abs().max() < 5 * math.sqrt(expected % 1 * (1 - expected % 1) / 600) + 1e-9


def test_crd_needs_two_classes():
    method = CRD({"embedding": Tap(4, 1)}, {"embedding": Tap(6, 1)})
    with pytest.raises(ValueError, match="needs training images of at least two classes"):
        method.begin(torch.ones(5, dtype=torch.int64))


def test_crd_copies_no_rows_of_its_memory():
    """No tensor is larger than a memory, or the scores of a batch with it; the usual form has 20 times these."""
    method = CRD({"embedding": Tap(64, 1)}, {"embedding": Tap(256, 1)})
    method.begin(torch.arange(50_000) % 100)
    student, teacher = (Output(None, {"embedding": torch.randn(64, width)}) for width in (64, 256))
    with Largest() as largest:
        method.loss(student, teacher, Batch(torch.arange(64) % 100, torch.arange(64), 1.0)).backward()
    assert largest.elements <= 50_000 * 128


def test_warm_up_is_a_share_of_the_epochs():
    """As min(epoch / 20, 1) of mdistiller over 240 epochs, and of the same shape over 24."""
    assert [warmed_up(epoch / 240, 20 / 240) for epoch in range(1, 241)] == pytest.approx(
        [min(epoch / 20, 1.0) for epoch in range(1, 241)]
    )
    assert [warmed_up(epoch / 24, 20 / 240) for epoch in (1, 2, 3)] == [0.5, 1.0, 1.0]
    assert warmed_up(0.01, 0) == 1.0


@draws
@given(seeds, st.integers(1, 6), st.integers(2, 7))
def test_controls(seed, batch, classes):
    """What each leaves of the teacher's logits; their loss is KD's of what is left."""
    logits = normal(seed, batch, classes)
    torch.manual_seed(seed)
    moved = permuted(logits)
    assert torch.equal(moved.argmax(1), logits.argmax(1)) and torch.equal(moved.amax(1), logits.amax(1))
    assert torch.equal(moved.sort(1).values, logits.sort(1).values)
    other = shuffled(logits)
    assert torch.equal(other.sort(0).values, logits.sort(0).values)
    assert batch == 1 or not (other == logits).all(1).any()
    student = normal(seed + 1, batch, classes)
    uniform = Uniform({}, {}, temperature=2.0)(Output(student, {}), Output(logits, {}))
    torch.testing.assert_close(uniform, kd_loss(student, torch.ones_like(student), 2.0))


def test_permuted_is_any_order_of_the_others():
    logits, seen = torch.tensor([[0.0, 3.0, 1.0, 2.0]]), set()
    for step in range(200):
        torch.manual_seed(step)
        seen.add(tuple(permuted(logits)[0].tolist()))
    assert len(seen) == 6 and all(row[1] == 3.0 for row in seen)


@pytest.mark.parametrize("sides", [(32, 16), (8, 4), (8, 1), (7, 3), (9, 3)])
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_average_pool_is_adaptive_pooling(sides, memory):
    """Values and gradients; to the last bit if a window's size is a power of two."""
    side, size = sides
    x = torch.randn(4, 6, side, 2 * side).to(memory_format=memory)
    pooled, gradient = [], torch.randn(4, 6, size, 2 * size)
    for pool in (average_pool, nn.functional.adaptive_avg_pool2d):
        mine = x.clone(memory_format=torch.preserve_format).requires_grad_()
        y = pool(mine, [size, 2 * size])
        y.backward(gradient)
        pooled.append((y, mine.grad))
    for mine, other in zip(*pooled):
        torch.testing.assert_close(
            mine, other, **({"rtol": 1e-6, "atol": 1e-7} if sides == (9, 3) else {"rtol": 0, "atol": 0})
        )
