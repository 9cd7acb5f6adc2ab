"""8-bit AdamW: equal to its engines' own optimisers to the bit, near float64, small, and exact."""

from __future__ import annotations

import copy
import importlib.util
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fromscratch.foundation.errors import UserError
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.optim.adamw8bit import AdamW8bit, choose_engine, dequantise
from fromscratch.optim.build import Optimizers, build_optimizers
from fromscratch.optim.config import OptimConfig
from fromscratch.optim.eight_bits import fits_eight_bits
from fromscratch.optim.run_settings import StepSettings
from fromscratch.plan.memory import optimizer_bytes
from fromscratch.runs.recipe_files import load_recipe

CPU = torch.device("cpu")
ENGINES = [
    pytest.param(name, marks=pytest.mark.skipif(
        importlib.util.find_spec(name) is None, reason=f"{name} is not installed"
    ))
    for name in ("bitsandbytes", "torchao")
]  # fmt: skip
SIZES = [(16, 256), (1030, 256), (97, 512)]  # the second is more than one slice
SETTINGS: dict[str, Any] = {
    "lr": 3e-3, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1,
}  # fmt: skip


def parameters() -> list[nn.Parameter]:
    draw = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(size, generator=draw) * 0.02) for size in SIZES]


def gradient(size: torch.Size, step: int) -> Tensor:
    """Rows of very different sizes, as a language model's embedding has; some are zero."""
    rows = 10.0 ** (-1.0 - torch.arange(size[0])[:, None] % 6)
    rows[::7] = 0.0
    return torch.randn(size, generator=torch.Generator().manual_seed(100 + step)) * rows


def update(optimizer: Any, weights: list[nn.Parameter], steps: range) -> None:
    for step in steps:
        for weight in weights:
            weight.grad = gradient(weight.shape, step)
        optimizer.step()


def librarys_own(engine: str, weights: list[nn.Parameter]) -> Any:
    if engine == "torchao":
        from torchao.optim import AdamW8bit as Theirs
    else:
        from bitsandbytes.optim import AdamW8bit as Theirs
    return Theirs(weights, **SETTINGS)


@pytest.mark.parametrize("engine", ENGINES)
def test_weights_and_state_are_those_of_the_librarys_own_optimiser(engine):
    ours, theirs = parameters(), parameters()
    optimizer = AdamW8bit(ours, engine=engine, **SETTINGS)
    update(optimizer, ours, range(5))
    reference = librarys_own(engine, theirs)
    with torch.compiler.set_stance("force_eager"):
        update(reference, theirs, range(5))
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.equal(mine, other)
        state, expected = optimizer.state[mine], reference.state[other]
        if engine == "torchao":
            first, second = expected["exp_avg"], expected["exp_avg_sq"]
            expected = {
                "state1": first.codes, "absmax1": first.scale, "qmap1": first.qmap,
                "state2": second.codes, "absmax2": second.scale, "qmap2": second.qmap,
            }  # fmt: skip
        for name, number in (("exp_avg", 1), ("exp_avg_sq", 2)):
            assert torch.equal(state[f"{name}_codes"], expected[f"state{number}"])
            assert torch.equal(state[f"{name}_scales"], expected[f"absmax{number}"])
            assert torch.equal(state[f"{name}_map"], expected[f"qmap{number}"])


@pytest.mark.parametrize("engine", ENGINES)
def test_the_update_is_near_that_in_float64(engine):
    """Loshchilov and Hutter (2019), algorithm 2. The first step only quantises what it leaves
    behind, so it is exact to fp32; later ones are as near as 8 bits are."""
    weights = parameters()
    start = [w.detach().double().clone() for w in weights]
    optimizer = AdamW8bit(weights, engine=engine, **SETTINGS)
    beta1, beta2 = SETTINGS["betas"]
    lr, decay, eps = SETTINGS["lr"], SETTINGS["weight_decay"], SETTINGS["eps"]
    exact = [w.clone() for w in start]
    moments = [[torch.zeros_like(w), torch.zeros_like(w)] for w in exact]
    for t in range(1, 11):
        update(optimizer, weights, range(t, t + 1))
        for x, (first, second) in zip(exact, moments, strict=True):
            g = gradient(x.shape, t).double()
            first.mul_(beta1).add_(g, alpha=1 - beta1)
            second.mul_(beta2).addcmul_(g, g, value=1 - beta2)
            x.mul_(1 - lr * decay)
            x.sub_(lr * (first / (1 - beta1**t)) / ((second / (1 - beta2**t)).sqrt() + eps))
        if t == 1:
            for weight, x in zip(weights, exact, strict=True):
                torch.testing.assert_close(weight.detach().double(), x, rtol=1e-5, atol=1e-8)
    for weight, x, begin, (first, second) in zip(weights, exact, start, moments, strict=True):
        moved, off = (x - begin).norm(), (weight.detach().double() - x).norm()
        assert off < 0.1 * moved
        state = optimizer.state[weight]
        for name, moment in (("exp_avg", first), ("exp_avg_sq", second)):
            kept = dequantise(state, name).double()
            assert (kept - moment).norm() < 0.05 * moment.norm()


def model(**options: object) -> GPT:
    base = {"n_layer": 1, "n_head": 2, "d_model": 64, "d_ff": 128, "context": 16, "vocab_size": 64}
    return GPT(ModelConfig(**(base | options)), seed=1)  # type: ignore[arg-type]


def train(net: GPT, optimizers: Optimizers, steps: range) -> list[float]:
    losses = []
    for step in steps:
        draw = torch.Generator().manual_seed(step)
        begin = torch.randint(0, 64, (8, 1), generator=draw)
        ids = (begin + 3 * torch.arange(17)) % 64  # each id follows from the one before
        logits = net(ids[:, :-1])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        optimizers.put_in_force(StepSettings())
        optimizers.step()
        optimizers.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("engine", ENGINES)
def test_a_model_learns_with_it_as_with_32_bits(engine):
    ours, theirs = model(), model()
    config = OptimConfig(name="adamw8bit", engine=engine, lr=3e-3)
    losses = train(ours, build_optimizers(ours, config), range(60))
    full = train(theirs, build_optimizers(theirs, OptimConfig(lr=3e-3)), range(60))
    assert full[-1] < 1.0 < 4.0 < full[0]
    assert losses[-1] == pytest.approx(full[-1], abs=0.1)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_state_is_plain_tensors_and_goes_on_to_the_bit(engine):
    net = model()
    config = OptimConfig(name="adamw8bit", engine=engine, lr=3e-3)
    optimizers = build_optimizers(net, config)
    train(net, optimizers, range(4))
    state = {name: tensor.clone() for name, tensor in optimizers.state().items()}
    assert all(type(tensor) is Tensor for tensor in state.values())
    assert state["adamw8bit.exp_avg_codes.embed.weight"].dtype == torch.uint8
    assert state["adamw8bit.exp_avg_sq_scales.embed.weight"].shape == (64 * 64 // 256,)
    assert "adamw.exp_avg.final_norm.weight" in state
    twin = copy.deepcopy(net)
    restored = build_optimizers(twin, config)
    restored.load_state(state)
    again = restored.state()
    assert set(again) == set(state)
    for name, tensor in again.items():
        assert torch.equal(tensor, state[name])
        assert tensor.dtype == state[name].dtype
        assert tensor.data_ptr() != state[name].data_ptr()
    assert train(net, optimizers, range(4, 8)) == train(twin, restored, range(4, 8))
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), twin.parameters(), strict=True))


def test_a_run_goes_on_with_the_other_engine():
    """Off a rented GPU with bitsandbytes, say, onto a machine with torchao alone."""
    for name in ("bitsandbytes", "torchao"):
        pytest.importorskip(name)
    net = model()
    first = build_optimizers(net, OptimConfig(name="adamw8bit", engine="bitsandbytes", lr=3e-3))
    train(net, first, range(30))
    twin = copy.deepcopy(net)
    other = build_optimizers(twin, OptimConfig(name="adamw8bit", engine="torchao", lr=3e-3))
    other.load_state(first.state())
    same, changed = train(net, first, range(30, 40)), train(twin, other, range(30, 40))
    assert changed == pytest.approx(same, abs=0.02)
    assert changed != same


def test_another_optimisers_state_is_refused():
    pytest.importorskip("bitsandbytes")
    net = model()
    quantised = build_optimizers(net, OptimConfig(name="adamw8bit"))
    train(net, quantised, range(1))
    plain = build_optimizers(model(), OptimConfig())
    with pytest.raises(UserError, match="does not fit"):
        plain.load_state(quantised.state())
    full = build_optimizers(net, OptimConfig())
    train(net, full, range(1))
    with pytest.raises(UserError, match="does not fit"):
        build_optimizers(model(), OptimConfig(name="adamw8bit")).load_state(full.state())


@pytest.mark.parametrize(
    "name", ["rangeflow-124m", "minigpt-124m", "rtx3090-163m", "fgpt-662m", "modern-124m"]
)
def test_the_state_takes_at_most_30_percent_and_what_plan_says(name):
    """Of the real shapes, without their memory."""
    pytest.importorskip("bitsandbytes")
    config = load_recipe(name).model
    with torch.device("meta"):
        net = GPT(config)

    small, large, total = 0, 0, 0
    for member in build_optimizers(net, OptimConfig(name="adamw8bit")).members:
        for parameter in (p.value for p in member.parameters):
            total += parameter.numel()
            if isinstance(member.optimizer, AdamW8bit):
                state = member.optimizer.fresh_state(parameter)
                shapes = {key: tensor.shape for key, tensor in state.items()}
                assert shapes == member.optimizer.layout(parameter)
                del state["step"]
                large += sum(t.numel() * t.element_size() for t in state.values())
            else:
                small += 8 * parameter.numel()
    assert total == sum(p.numel() for p in net.parameters())
    assert small + large <= 0.30 * 8 * total
    assert small + large == optimizer_bytes(config, OptimConfig(name="adamw8bit"))


def test_what_stays_in_fp32():
    """Small tensors, and those that are not whole blocks."""
    assert not fits_eight_bits(3072)
    assert not fits_eight_bits(4992)  # a bias of 4 x 1248
    assert fits_eight_bits(4096)
    pytest.importorskip("bitsandbytes")
    members = {m.name: m for m in build_optimizers(model(), OptimConfig(name="adamw8bit")).members}
    owned = {m.name: {p.name for p in m.parameters} for m in members.values()}
    assert "embed.weight" in owned["adamw8bit"]
    assert "blocks.0.attn_norm.weight" in owned["adamw"]
    assert not owned["adamw"] & owned["adamw8bit"]
    assert owned["adamw"] | owned["adamw8bit"] == {n for n, _ in model().named_parameters()}
    decays = {g["weight_decay"] for g in members["adamw8bit"].optimizer.param_groups}
    assert decays == {OptimConfig().weight_decay}


def test_a_model_too_small_for_it_trains_with_adamw():
    tiny = model(d_model=8, vocab_size=64, d_ff=16)
    optimizers = build_optimizers(tiny, OptimConfig(name="adamw8bit", lr=3e-3))
    assert [m.name for m in optimizers.members] == ["adamw"]
    assert math.isfinite(train(tiny, optimizers, range(2))[-1])


class TestChoosingAnEngine:
    def without(self, patch: pytest.MonkeyPatch, *missing: str) -> None:
        find = importlib.util.find_spec
        patch.setattr(
            importlib.util, "find_spec", lambda name: None if name in missing else find(name)
        )

    def test_what_is_missing_is_named_with_its_extra(self, monkeypatch):
        self.without(monkeypatch, "torchao", "bitsandbytes")
        for wanted in ("auto", "torchao", "bitsandbytes"):
            with pytest.raises(UserError, match="which is not installed") as error:
                choose_engine(wanted, CPU)
            assert "pip install 'fromscratch[gpu]'" in error.value.fix
        with pytest.raises(UserError, match="needs bitsandbytes or torchao"):
            choose_engine("auto", CPU)

    def test_auto_takes_the_faster_one_that_is_there(self, monkeypatch):
        for name in ("bitsandbytes", "torchao"):
            pytest.importorskip(name)
        assert choose_engine("auto", torch.device("mps")) == "torchao"
        assert choose_engine("auto", CPU) == "bitsandbytes"
        assert choose_engine("auto", torch.device("cuda")) == "bitsandbytes"
        self.without(monkeypatch, "bitsandbytes")
        assert choose_engine("auto", torch.device("cuda")) == "torchao"

    def test_bitsandbytes_has_nothing_for_apples_gpus(self):
        with pytest.raises(UserError, match="Apple GPU"):
            choose_engine("bitsandbytes", torch.device("mps"))

    def test_an_engine_without_its_optimiser_is_refused(self):
        with pytest.raises(UserError, match="has no effect"):
            load_recipe("try", ["optim.engine=torchao"])


def test_the_map_makes_sense():
    """Ascending, one code for zero; so that a code's number is what quantisation means by it."""
    for engine in ("bitsandbytes", "torchao"):
        pytest.importorskip(engine)
        weight = nn.Parameter(torch.zeros(4096))
        optimizer = AdamW8bit([weight], engine=engine, **SETTINGS)
        for table, low in zip(optimizer.engine.maps(), (-1.0, 0.0), strict=True):
            numbers = table.numpy()
            assert numbers.shape == (256,)
            assert (np.diff(numbers) > 0).all()
            assert numbers[-1] == 1.0
            assert numbers[0] >= low
            assert (numbers == 0).sum() == 1
