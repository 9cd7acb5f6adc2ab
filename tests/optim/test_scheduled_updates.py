"""Every optimiser under schedules of learning rate, weight decay and momentum at once.

The reference is a loop in float64 that is told the values of each step; the optimisers are told by
`put_in_force`, and must have forgotten the step before.
"""

from __future__ import annotations

import math
from itertools import accumulate

import numpy as np
import pytest
import torch
from torch import Tensor

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.schedules import StepSettings
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.optim.build import Member, Optimizers, build_optimizers
from fromscratch.optim.config import OptimConfig
from fromscratch.optim.groups import row_blocks

# One value for each of six updates; a decay of 0 and a rate of 0 among them.
LR = [0.25, 1.0, 1.0, 0.5, 0.0, 0.125]
DECAY = [0.4, 0.3, 0.2, 0.1, 0.05, 0.0]
MUON_DECAY = [0.0, 0.1, 0.2, 0.3, 0.2, 0.1]
MOMENTUM = [0.8, 0.85, 0.9, 0.95, 0.7, 0.6]
BETA2, EPS = 0.95, 1e-8
PEAKS = {"embed": 2e-2, "head": 1e-2, "plain": 5e-3, "hidden": 3e-2, "muon": 5e-2}


def model() -> GPT:
    config = ModelConfig(
        n_layer=1, n_head=2, d_model=12, context=8, vocab_size=11, init="normal", n_kv_head=1
    )
    return GPT(config, seed=2)


def build(name: str, net: GPT) -> Optimizers:
    config = OptimConfig(
        name=name,  # type: ignore[arg-type]
        lr=PEAKS["hidden"], embed_lr=PEAKS["embed"], head_lr=PEAKS["head"],
        plain_lr=PEAKS["plain"], muon_lr=PEAKS["muon"],
        betas=(0.9, BETA2), eps=EPS, weight_decay=0.1, muon_weight_decay=0.0, muon_momentum=0.9,
    )  # fmt: skip
    try:
        return build_optimizers(net, config)
    except UserError as error:
        pytest.skip(str(error))


def kind(name: str, *, muon: bool) -> str:
    if name.startswith("blocks.") and "norm" not in name:
        return "muon" if muon else "hidden"
    return {"embed.weight": "embed", "head.weight": "head"}.get(name, "plain")


def adamw(x: np.ndarray, grads: list[np.ndarray], group: str, betas: list[float]) -> np.ndarray:
    """Loshchilov and Hutter (2019), algorithm 2; the bias is corrected with the beta in force."""
    first, second = np.zeros_like(x), np.zeros_like(x)
    for t, (g, lr, decay, beta1) in enumerate(zip(grads, LR, DECAY, betas, strict=True), start=1):
        rate = PEAKS[group] * lr
        x = x * (1 - rate * (0.0 if group == "plain" else decay))
        first = beta1 * first + (1 - beta1) * g
        second = BETA2 * second + (1 - BETA2) * g * g
        hat1, hat2 = first / (1 - beta1**t), second / (1 - BETA2**t)
        x = x - rate * hat1 / (np.sqrt(hat2) + EPS)
    return x


def orthogonal(matrix: np.ndarray) -> np.ndarray:
    """Five steps of the quintic on the singular values."""
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    s = s / (np.linalg.norm(s) + 1e-7)
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    return u @ np.diag(s) @ vt


def muon(x: np.ndarray, grads: list[np.ndarray], rows: tuple[int, ...]) -> np.ndarray:
    mean = np.zeros_like(x)
    for g, lr, decay, momentum in zip(grads, LR, MUON_DECAY, MOMENTUM, strict=True):
        rate = PEAKS["muon"] * lr
        mean = momentum * mean + (1 - momentum) * g
        nesterov = momentum * mean + (1 - momentum) * g
        ends = list(accumulate(rows))
        x = x * (1 - rate * decay)
        for part in map(slice, [0, *ends], ends):
            scale = math.sqrt(max(1.0, x[part].shape[0] / x.shape[1]))
            x[part] -= rate * scale * orthogonal(nesterov[part])
    return x


def train(net: GPT, optimizers: Optimizers, grads: list[dict[str, Tensor]]) -> None:
    for grad, *values in zip(grads, LR, DECAY, MUON_DECAY, MOMENTUM, strict=True):
        for name, parameter in net.named_parameters():
            parameter.grad = grad[name].clone()
        lr, decay, muon_decay, momentum = values
        optimizers.put_in_force(StepSettings(lr, 0.0, decay, muon_decay, momentum))
        optimizers.step()


@pytest.mark.parametrize("name", ["adamw", "adamw8bit", "muon"])
def test_three_schedules_at_once_equal_a_loop_in_float64(name: str):
    net = model()
    start = {n: p.detach().double().numpy().copy() for n, p in net.named_parameters()}
    draw = torch.Generator().manual_seed(4)
    grads = [
        {n: torch.randn(p.shape, generator=draw) for n, p in net.named_parameters()} for _ in LR
    ]
    train(net, build(name, net), grads)
    blocks = row_blocks(net)
    for parameter_name, parameter in net.named_parameters():
        gs = [g[parameter_name].double().numpy() for g in grads]
        group = kind(parameter_name, muon=name == "muon")
        x = start[parameter_name]
        if group == "muon":
            expected = muon(x.copy(), gs, blocks.get(parameter_name, (x.shape[0],)))
        else:
            # Beside Muon, which has the scheduled momentum, AdamW keeps its betas.
            betas = [0.9] * len(LR) if name == "muon" else MOMENTUM
            expected = adamw(x, gs, group, betas)
        # Tensors this small are kept in full precision by 8-bit optimisers as well.
        tolerance = 3e-4 if group == "muon" else 3e-6
        np.testing.assert_allclose(parameter.detach().numpy(), expected, rtol=0, atol=tolerance)
        assert np.abs(expected - x).max() > 20 * tolerance


def test_8_bit_matrices_follow_the_schedules_within_their_quantisation():
    """Where all moments are in 8 bits, the end is near, measured by the distance gone."""
    config = ModelConfig(n_layer=1, n_head=2, d_model=64, context=8, vocab_size=64)
    net = GPT(config, seed=2)
    start = {n: p.detach().double().numpy().copy() for n, p in net.named_parameters()}
    draw = torch.Generator().manual_seed(4)
    grads = [
        {n: torch.randn(p.shape, generator=draw) for n, p in net.named_parameters()} for _ in LR
    ]
    train(net, build("adamw8bit", net), grads)
    matrices = {n: p for n, p in net.named_parameters() if p.numel() >= 4096}
    assert len(matrices) == 6
    for name, parameter in matrices.items():
        gs = [g[name].double().numpy() for g in grads]
        x, group = start[name], kind(name, muon=False)
        expected = adamw(x, gs, group, MOMENTUM)
        gone = np.linalg.norm(expected - x)
        assert np.linalg.norm(parameter.detach().numpy() - expected) < 0.03 * gone
        # A momentum that stays where it is would be seen.
        assert np.linalg.norm(adamw(x, gs, group, [0.9] * len(LR)) - expected) > 0.2 * gone


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_what_is_logged_is_what_is_in_force(name: str):
    net = model()
    optimizers = build(name, net)
    for lr, decay, muon_decay, momentum in zip(LR, DECAY, MUON_DECAY, MOMENTUM, strict=True):
        settings = StepSettings(lr, 0.0, decay, muon_decay, momentum)
        said = optimizers.in_force(settings)
        optimizers.put_in_force(settings)
        groups = {g["name"]: g for m in optimizers.members for g in m.optimizer.param_groups}
        big = "muon" if name == "muon" else "hidden"
        assert set(said.lrs) == set(groups) == {"embed", "head", "plain", big}
        assert said.lrs == {n: g["lr"] for n, g in groups.items()}
        assert said.lrs == pytest.approx({n: PEAKS[n] * lr for n in groups})
        assert said.momentum == momentum
        assert groups["plain"]["weight_decay"] == 0.0
        assert groups["embed"]["weight_decay"] == decay == said.weight_decay["adamw"]
        if name == "muon":
            assert groups["muon"]["weight_decay"] == muon_decay == said.weight_decay["muon"]
            assert groups["muon"]["momentum"] == momentum
            assert groups["embed"]["betas"] == (0.9, BETA2)
        else:
            assert groups["embed"]["betas"] == (momentum, BETA2)


def test_what_is_not_said_is_as_it_was_built():
    net = model()
    optimizers = build("muon", net)
    built = optimizers.in_force(StepSettings())
    optimizers.put_in_force(StepSettings(0.5, 0.0, 0.7, 0.6, 0.1))
    optimizers.put_in_force(StepSettings())
    (hidden,) = optimizers.members[-1].optimizer.param_groups
    assert (hidden["lr"], hidden["weight_decay"], hidden["momentum"]) == (PEAKS["muon"], 0.0, 0.9)
    assert optimizers.in_force(StepSettings()) == built
    assert built.weight_decay == {"adamw": 0.1, "muon": 0.0}


def test_several_adamw_have_the_momentum_where_there_is_no_muon():
    """As with 8-bit AdamW, whose small tensors belong to an ordinary one."""
    members = []
    for name in ("adamw8bit", "adamw"):
        group = {"name": "embed", "params": [torch.nn.Parameter(torch.ones(2, 2))]}
        members.append(Member(name, torch.optim.AdamW([group], betas=(0.9, BETA2)), []))
    optimizers = Optimizers(members)
    settings = StepSettings(weight_decay=0.3, momentum=0.5)
    optimizers.put_in_force(settings)
    for member in members:
        (group,) = member.optimizer.param_groups
        assert (group["betas"], group["weight_decay"]) == ((0.5, BETA2), 0.3)
    assert optimizers.in_force(settings).weight_decay == {"adamw8bit": 0.3, "adamw": 0.3}
    assert optimizers.in_force(settings).momentum == 0.5


def test_a_rate_that_is_a_tensor_is_set_in_place():
    """A compiled update reads it without being compiled again."""
    rate = torch.tensor(0.1)
    group = {"name": "embed", "params": [torch.nn.Parameter(torch.ones(2, 2))], "lr": rate}
    adamw = torch.optim.AdamW([group], capturable=False, foreach=False)
    optimizers = Optimizers([Member("adamw", adamw, [])])
    optimizers.put_in_force(StepSettings(lr=0.5))
    assert adamw.param_groups[0]["lr"] is rate
    assert float(rate) == pytest.approx(0.05)
    optimizers.put_in_force(StepSettings(lr=0.25))
    assert float(rate) == pytest.approx(0.025), "a fraction of the peak, not of what was there"
