"""The seven losses against the numbers of the reference implementations.

tests/data/golden.npz holds losses and gradients that the public reference codes (RepDistiller, attention-transfer, RKD,
overhaul-distillation in float64, the official NST in MXNet) produced on random inputs. Every array of it is used: the
last test fails if any was not read.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden import Golden, strict

from kdexp.distill.at import at_loss
from kdexp.distill.fn import Regressor, hint_loss
from kdexp.distill.kd import kd_loss
from kdexp.distill.nst import nst_loss
from kdexp.distill.od import connector, od_margin, partial_l2
from kdexp.distill.rkd import rkd_angle_loss, rkd_distance_loss
from kdexp.distill.sp import sp_loss
from kdexp.models import Tap

GOLDEN = Golden("golden.npz")
ARRAYS, USED = GOLDEN.arrays, GOLDEN.used
golden, check_loss, check_grad = GOLDEN.read, GOLDEN.check_loss, GOLDEN.check_grad
both = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])


def feature(case, name, dtype, relu=True, grad=False):
    """A stored feature, after the ReLU unless the loss reads signed values."""
    tensor = golden(f"feat/{case}/{name}", dtype)
    return (tensor.clamp(min=0) if relu else tensor.clone()).requires_grad_(grad)


@strict("classes", [10, 100])
def test_kd(classes, dtype):
    key = f"kd/c{classes}"
    student, teacher = golden(f"{key}/logits_s", dtype, grad=True), golden(f"{key}/logits_t", dtype)
    kd, ce = kd_loss(student, teacher, 4.0), F.cross_entropy(student, golden(f"{key}/labels"))
    for name, value in {"kd_T4": kd, "ce": ce, "total_T4_alpha0.9": 0.9 * kd + 0.1 * ce}.items():
        check_loss(value, f"{key}/{name}")
        check_grad(torch.autograd.grad(value, student, retain_graph=True)[0], f"{key}/{name}_grad_s")


PER_STAGE = (
    [("at", c) for c in ("mix", "eq", "spm", "mix_signed")]
    + [("nst", c) for c in ("mix", "eq", "spm")]
    + [("sp", "mix"), ("sp", "eq")]
)


@strict("method, case", PER_STAGE, single=[("at", "mix"), ("nst", "mix"), ("sp", "mix")])
def test_feature_losses(method, case, dtype):
    loss = {"at": at_loss, "nst": nst_loss, "sp": sp_loss}[method]
    groups = [k.split("/group")[1] for k in ARRAYS if k.startswith(f"{method}/{case}/group")]
    assert groups
    relu = case != "mix_signed"
    source = case.removesuffix("_signed")
    students = [feature(source, f"s{i}", dtype, relu, grad=True) for i in groups]
    losses = [loss(s, feature(source, f"t{i}", dtype, relu)) for i, s in zip(groups, students)]
    for i, value in zip(groups, losses):
        check_loss(value, f"{method}/{case}/group{i}")
    total = sum(losses)
    if f"{method}/{case}/sum" in ARRAYS:
        check_loss(total, f"{method}/{case}/sum")
    for i, gradient in zip(groups, torch.autograd.grad(total, students)):
        check_grad(gradient, f"{method}/{case}/grad_s{i}")


@pytest.mark.parametrize("case", ["mix", "eq"])
def test_nst_official(case):
    """The authors' MXNet form: per sample, without the constant teacher term, eps inside the root (hence the
    tolerances)."""
    for i in (1, 2, 3):
        student, teacher = feature(case, f"s{i}", torch.float64, grad=True), feature(case, f"t{i}", torch.float64)
        values = []
        for s, t in zip(student, teacher):
            unit = F.normalize(t.flatten(1), dim=1)
            values.append(nst_loss(s[None], t[None]) - (unit @ unit.T).square().mean())
        np.testing.assert_allclose(
            torch.stack(values).detach(), golden(f"nst_official/{case}/per_sample{i}"), atol=1e-5
        )
        key = f"nst_official/{case}/grad_s{i}_sum_over_batch"
        if key in ARRAYS:
            expected = golden(key)
            gradient = torch.autograd.grad(sum(values), student)[0]
            assert (gradient - expected).abs().max() <= 1e-3 * expected.abs().max()


@strict("case", ["d32_64", "d64_64", "b16"])
def test_rkd(case, dtype):
    student, teacher = golden(f"rkd/{case}/emb_s", dtype, grad=True), golden(f"rkd/{case}/emb_t", dtype)
    distance, angle = rkd_distance_loss(student, teacher), rkd_angle_loss(student, teacher)
    for name, value in {"dist": distance, "angle": angle, "total_25_50": 25 * distance + 50 * angle}.items():
        check_loss(value, f"rkd/{case}/{name}")
        check_grad(torch.autograd.grad(value, student, retain_graph=True)[0], f"rkd/{case}/{name}_grad_s")


@both
def test_rkd_duplicate_embeddings(dtype):
    """The losses match the reference; its angle gradient of 3e9 is the only golden array that ours must not match."""
    student, teacher = golden("rkd/dup/emb_s", dtype, grad=True), golden("rkd/dup/emb_t", dtype)
    distance, angle = rkd_distance_loss(student, teacher), rkd_angle_loss(student, teacher)
    check_loss(distance, "rkd/dup/dist")
    check_loss(angle, "rkd/dup/angle")
    check_grad(torch.autograd.grad(distance, student)[0], "rkd/dup/dist_grad_s")
    assert golden("rkd/dup/angle_grad_s").abs().max() > 1e9
    assert torch.autograd.grad(angle, student)[0].abs().max() < 10


@both
def test_fn_without_regressor(dtype):
    student = feature("eq", "s2", dtype, grad=True)
    loss = hint_loss(student, feature("eq", "t2", dtype))
    check_loss(loss, "fn/plain_mse/loss")
    check_grad(torch.autograd.grad(loss, student)[0], "fn/plain_mse/grad_s2")


@strict("relu", ["relu", "norelu"])
@pytest.mark.parametrize("case, stage", [("same", 2), ("down", 1), ("up", 3)])
def test_fn_regressor(case, stage, relu, dtype):
    key = f"fn/reg_{case}"
    student, teacher = feature("mix", f"s{stage}", dtype, grad=True), feature("mix", "t2", dtype)
    regressor = Regressor(
        Tap(student.shape[1], student.shape[2]), Tap(teacher.shape[1], teacher.shape[2]), relu == "relu"
    ).to(dtype)
    names = {k.split("/param.")[1] for k in ARRAYS if k.startswith(f"{key}/param.")}
    ours = dict(regressor.named_parameters())
    assert names == set(ours)
    for name, parameter in ours.items():
        parameter.data = golden(f"{key}/param.{name}", dtype)
    loss = hint_loss(regressor(student), teacher)
    check_loss(loss, f"{key}/{relu}/loss")
    gradients = torch.autograd.grad(loss, [student, *ours.values()])
    for name, gradient in zip(["s", *ours], gradients):
        suffix = "grad_s" if name == "s" else f"grad.{name}"
        check_grad(gradient, f"{key}/{relu}/{suffix}")


@both
def test_fn_of_the_rkd_repository(dtype):
    """A bias-free 1x1 convolution and the mean squared error."""
    student, weight = feature("mix", "s2", dtype, grad=True), golden("fn/rkdrepo_1x1/param.weight", dtype, grad=True)
    loss = hint_loss(F.conv2d(student, weight), feature("mix", "t2", dtype))
    check_loss(loss, "fn/rkdrepo_1x1/loss")
    for gradient, name in zip(torch.autograd.grad(loss, [student, weight]), ("grad_s", "grad.weight")):
        check_grad(gradient, f"fn/rkdrepo_1x1/{name}")


def test_od_margin():
    for stored in ["od/margin_edge/"] + [f"od/{case}/" for case in ("mix", "eq")]:
        for i in [""] if "edge" in stored else ["1", "2", "3"]:
            gamma, beta = ("gamma", "beta") if not i else (f"bn_gamma{i}", f"bn_beta{i}")
            margin = od_margin(golden(stored + gamma), golden(stored + beta))
            expected = golden(f"{stored}margin_f32{'_' + i if i else ''}")
            torch.testing.assert_close(margin.float(), expected, rtol=1e-6, atol=1e-7)


@both
def test_od_partial_l2(dtype):
    source = golden("od/partial_l2/source", dtype, grad=True)
    loss = partial_l2(source, golden("od/partial_l2/target", dtype), golden("od/partial_l2/margin", dtype))
    check_loss(loss, "od/partial_l2/loss")
    check_grad(torch.autograd.grad(loss, source)[0], "od/partial_l2/grad_source")


@strict("case", ["mix", "eq"])
def test_od(case, dtype):
    key, total, leaves = f"od/{case}", 0.0, {}
    for i in (1, 2, 3):
        student, teacher = (
            feature(case, f"s{i}", dtype, relu=False, grad=True),
            feature(case, f"t{i}", dtype, relu=False),
        )
        bridge = connector(Tap(student.shape[1], student.shape[2]), Tap(teacher.shape[1], teacher.shape[2])).to(dtype)
        parameters = {"conv": bridge[0].weight, "bn_gamma": bridge[1].weight, "bn_beta": bridge[1].bias}
        for name, parameter in parameters.items():
            stored = golden(f"{key}/conn{i}_{name}", dtype)
            parameter.data = stored.view_as(parameter)
            leaves[f"grad_conn{i}_{name}"] = parameter
        leaves[f"grad_s{i}"] = student
        margin = golden(f"{key}/margin_f32_{i}").to(dtype).view(1, -1, 1, 1)
        layer = partial_l2(bridge(student), teacher, margin)
        check_loss(layer, f"{key}/layer_sum{i}")
        total = total + layer / 2 ** (3 - i)
    check_loss(total, f"{key}/loss_sum")
    check_loss(total / 8 / 1000, f"{key}/loss_scaled")
    for name, gradient in zip(leaves, torch.autograd.grad(total / 8 / 1000, list(leaves.values()))):
        check_grad(gradient.view(golden(f"{key}/{name}").shape), f"{key}/{name}")


def test_every_golden_array_is_used(request):
    ran = [item for item in request.session.items if item.path == request.path]
    if len(ran) < 43:
        pytest.skip("only a part of this file was asked for")
    assert sorted(set(ARRAYS) - USED) == []
