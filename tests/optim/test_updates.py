"""AdamW and Muon against plain float64 loops, an SVD, and torch's own; their state to the bit."""

from __future__ import annotations

import copy
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.optim import _muon as torch_muon

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.schedules import StepSettings
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.optim.build import Optimizers, build_optimizers
from fromscratch.optim.config import OptimConfig
from fromscratch.optim.groups import row_blocks
from fromscratch.optim.muon import Muon, iteration_dtype, orthogonalise, polynomials

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def small_model(**options: object) -> GPT:
    base = {"n_layer": 2, "n_head": 4, "d_model": 16, "context": 8, "vocab_size": 11}
    return GPT(ModelConfig(**(base | {"init": "normal"} | options)), seed=1)  # type: ignore[arg-type]


def gradients(model: GPT, steps: int, seed: int = 0) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        {n: torch.randn(p.shape, generator=generator) for n, p in model.named_parameters()}
        for _ in range(steps)
    ]


def apply(
    model: GPT, optimizers: Optimizers, grads: list[dict[str, Tensor]], fractions: list[float]
) -> None:
    for grad, fraction in zip(grads, fractions, strict=True):
        for name, parameter in model.named_parameters():
            parameter.grad = grad[name].clone()
        optimizers.put_in_force(StepSettings(lr=fraction))
        optimizers.step()
        optimizers.zero_grad()


FRACTIONS = [0.1, 0.5, 1.0, 1.0, 0.7, 0.2]


class TestAdamW:
    def test_equals_a_loop_in_float64(self) -> None:
        """Loshchilov and Hutter (2019), algorithm 2, written out."""
        model = small_model(norm="layernorm", norm_bias=True, qkv_bias=True, qk_norm=False)
        start = {n: p.detach().double().numpy().copy() for n, p in model.named_parameters()}
        grads = gradients(model, len(FRACTIONS))
        config = OptimConfig(
            lr=3e-2, embed_lr=2e-2, head_lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1
        )
        apply(model, build_optimizers(model, config), grads, FRACTIONS)

        beta1, beta2 = config.betas
        for name, parameter in model.named_parameters():
            x = start[name]
            first, second = np.zeros_like(x), np.zeros_like(x)
            peak = {"embed.weight": 2e-2, "head.weight": 1e-2}.get(name, 3e-2)
            decay = config.weight_decay if x.ndim >= 2 else 0.0
            for t, (grad, fraction) in enumerate(zip(grads, FRACTIONS, strict=True), start=1):
                g, lr = grad[name].double().numpy(), peak * fraction
                x = x * (1 - lr * decay)
                first = beta1 * first + (1 - beta1) * g
                second = beta2 * second + (1 - beta2) * g * g
                update = (first / (1 - beta1**t)) / (np.sqrt(second / (1 - beta2**t)) + config.eps)
                x = x - lr * update
            np.testing.assert_allclose(parameter.detach().numpy(), x, rtol=2e-5, atol=2e-6)
            assert not np.allclose(x, start[name], atol=1e-3)

    def test_a_fraction_of_zero_changes_nothing(self) -> None:
        model = small_model()
        before = copy.deepcopy(model.state_dict())
        apply(model, build_optimizers(model, OptimConfig()), gradients(model, 1), [0.0])
        assert all(torch.equal(before[n], p) for n, p in model.state_dict().items())


def newton_schulz_values(singular: np.ndarray) -> np.ndarray:
    """What five steps of the quintic make of singular values, in float64."""
    a, b, c = COEFFICIENTS
    x = singular
    for _ in range(5):
        x = a * x + b * x**3 + c * x**5
    return x


class TestPolarExpress:
    @pytest.mark.parametrize("steps", [1, 3, 5])
    def test_its_polynomials_go_through_the_singular_values(self, steps: int) -> None:
        matrix = torch.randn((24, 16), generator=torch.Generator().manual_seed(3))
        by = polynomials("polar_express", steps)
        ours = orthogonalise(matrix[None], by=by, dtype=torch.float32)[0].double().numpy()
        u, s, vt = np.linalg.svd(matrix.double().numpy(), full_matrices=False)
        x = s / (1.02 * np.linalg.norm(s) + 1e-7)
        for a, b, c in by:
            x = a * x + b * x**3 + c * x**5
        np.testing.assert_allclose(ours, u @ np.diag(x) @ vt, atol=2e-4)

    def test_five_steps_come_nearer_than_five_of_newton_schulz(self) -> None:
        """Amsel et al. (2025): singular values from a thousandth of the norm on come near one."""
        values = torch.logspace(-2.5, -0.6, 16)
        left, _ = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(1)))
        matrix = (left * values / values.norm())[None]
        error = {}
        for method in ("polar_express", "newton_schulz"):
            out = orthogonalise(matrix, by=polynomials(method, 5), dtype=torch.float32)
            error[method] = (torch.linalg.svdvals(out) - 1).abs().max()
        assert error["polar_express"] < 0.2 < error["newton_schulz"]

    def test_a_recipe_chooses_it(self) -> None:
        """Two recipes that differ in it alone make different updates, both near orthogonal."""
        moved = {}
        for method, steps in (("newton_schulz", 5), ("polar_express", 5)):
            model = small_model()
            before = model.blocks[0].mlp.down.weight.detach().clone()
            config = OptimConfig(name="muon", muon_lr=1.0, muon_method=method, muon_steps=steps)
            apply(model, build_optimizers(model, config), gradients(model, 1), [1.0])
            moved[method] = model.blocks[0].mlp.down.weight.detach() - before
        assert not torch.equal(*moved.values())
        values = torch.linalg.svdvals(moved["polar_express"])
        assert values.min() > 0.8
        assert values.max() < 1.2

    def test_more_steps_than_it_has_are_refused(self) -> None:
        with pytest.raises(ValueError, match="five steps"):
            OptimConfig(name="muon", muon_method="polar_express", muon_steps=6)


class TestOrthogonalise:
    @pytest.mark.parametrize("shape", [(16, 16), (48, 16), (16, 48), (1, 7), (7, 1), (64, 60)])
    def test_equals_the_iteration_on_the_singular_values(self, shape: tuple[int, int]) -> None:
        matrix = torch.randn(shape, generator=torch.Generator().manual_seed(3)) * 1e-3
        ours = orthogonalise(matrix[None], dtype=torch.float32)[0].double().numpy()
        u, s, vt = np.linalg.svd(matrix.double().numpy(), full_matrices=False)
        expected = u @ np.diag(newton_schulz_values(s / (np.linalg.norm(s) + 1e-7))) @ vt
        np.testing.assert_allclose(ours, expected, atol=2e-4)

    @pytest.mark.parametrize("shape", [(32, 32), (96, 32), (32, 96)])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
    def test_is_near_the_polar_factor(self, shape: tuple[int, int], dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(5)
        left, _ = torch.linalg.qr(torch.randn(shape[0], 32, generator=generator))
        right, _ = torch.linalg.qr(torch.randn(shape[1], 32, generator=generator))
        spread = torch.logspace(0, -2, 32)  # a condition number of 100
        matrix = left @ torch.diag(spread) @ right.T
        ours = orthogonalise(matrix[None], dtype=dtype)[0].float()
        polar = left @ right.T
        values = torch.linalg.svdvals(ours)
        assert values.max() < 1.25
        assert values.min() > 0.6
        # The same singular vectors: in that basis what is left is diagonal.
        inside = left.T @ ours @ right
        off = inside - torch.diag(inside.diagonal())
        assert off.abs().max() < (1e-4 if dtype == torch.float32 else 0.06)
        cosine = (ours * polar).sum() / (ours.norm() * polar.norm())
        assert cosine > 0.98
        # No value is farther than 0.4 from one, so the whole is within 0.4 of U V^T.
        assert torch.linalg.matrix_norm(ours - polar, 2) < 0.4

    def test_a_batch_equals_one_by_one(self) -> None:
        matrices = torch.randn(7, 24, 10, generator=torch.Generator().manual_seed(1))
        together = orthogonalise(matrices, dtype=torch.float32)
        for matrix, result in zip(matrices, together, strict=True):
            alone = orthogonalise(matrix[None], dtype=torch.float32)[0]
            torch.testing.assert_close(result, alone, atol=1e-6, rtol=1e-5)

    def test_scale_and_sign(self) -> None:
        matrix = torch.randn(1, 12, 20, generator=torch.Generator().manual_seed(2))
        base = orthogonalise(matrix, dtype=torch.float32)
        for factor in (1e-2, 1e4):
            scaled = orthogonalise(matrix * factor, dtype=torch.float32)
            torch.testing.assert_close(base, scaled, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(orthogonalise(-matrix, dtype=torch.float32), -base)

    def test_no_gradient_no_update(self) -> None:
        assert torch.equal(
            orthogonalise(torch.zeros(2, 4, 6), dtype=torch.float32), torch.zeros(2, 4, 6)
        )

    def test_equals_torchs_iteration_in_its_own_precision(self) -> None:
        for shape in ((32, 32), (48, 16), (16, 48)):
            matrix = torch.randn(shape, generator=torch.Generator().manual_seed(4))
            theirs = torch_muon._zeropower_via_newtonschulz(matrix, COEFFICIENTS, 5, 1e-7)
            ours = orthogonalise(matrix[None], dtype=torch.bfloat16)[0]
            # bfloat16 has 8 bits; five rounds of products leave about two of them uncertain.
            torch.testing.assert_close(ours.float(), theirs.float(), atol=0.03, rtol=0)

    def test_the_cpu_iterates_in_float32(self) -> None:
        assert iteration_dtype(torch.device("cpu")) == torch.float32


def reference_muon(
    x: np.ndarray,
    grads: list[np.ndarray],
    *,
    lrs: list[float],
    momentum: float,
    decay: float,
    rows: tuple[int, ...],
) -> np.ndarray:
    """Muon in float64, one matrix at a time, through the SVD."""
    mean = np.zeros_like(x)
    for g, lr in zip(grads, lrs, strict=True):
        mean = momentum * mean + (1 - momentum) * g
        nesterov = momentum * mean + (1 - momentum) * g
        x = x * (1 - lr * decay)
        start = 0
        for n in rows:
            part = nesterov[start : start + n]
            u, s, vt = np.linalg.svd(part, full_matrices=False)
            update = u @ np.diag(newton_schulz_values(s / (np.linalg.norm(s) + 1e-7))) @ vt
            scale = math.sqrt(max(1.0, n / part.shape[1]))
            x[start : start + n] -= lr * scale * update
            start += n
    return x


class TestMuon:
    @pytest.mark.parametrize("decay", [0.0, 0.1])
    def test_equals_a_loop_in_float64_part_by_part(self, decay: float) -> None:
        model = small_model(n_kv_head=2)  # modern: fused q, k, v of unequal sizes, and gate, up
        start = {n: p.detach().double().numpy().copy() for n, p in model.named_parameters()}
        grads = gradients(model, len(FRACTIONS))
        config = OptimConfig(name="muon", muon_lr=0.05, muon_momentum=0.9, muon_weight_decay=decay)
        optimizers = build_optimizers(model, config)
        apply(model, optimizers, grads, FRACTIONS)
        blocks = row_blocks(model)
        assert blocks["blocks.0.attn.qkv.weight"] == (16, 8, 8)
        assert len(blocks["blocks.0.mlp.up.weight"]) == 2
        muon = next(m for m in optimizers.members if m.name == "muon")
        assert len(muon.parameters) == 8
        for parameter in muon.parameters:
            expected = reference_muon(
                start[parameter.name],
                [g[parameter.name].double().numpy() for g in grads],
                lrs=[0.05 * f for f in FRACTIONS],
                momentum=0.9,
                decay=decay,
                rows=blocks.get(parameter.name, (parameter.value.shape[0],)),
            )
            np.testing.assert_allclose(parameter.value.detach().numpy(), expected, atol=2e-4)

    def test_fused_matrices_are_their_parts(self) -> None:
        generator = torch.Generator().manual_seed(0)
        start = torch.randn(30, 12, generator=generator)
        rows = (12, 6, 12)
        fused = torch.nn.Parameter(start.clone())
        parts = [torch.nn.Parameter(p.clone()) for p in start.split(rows)]
        one = Muon([fused], lr=0.1, weight_decay=0.05, blocks={fused: rows})
        many = Muon(parts, lr=0.1, weight_decay=0.05)
        for _ in range(4):
            fused.grad = torch.randn(30, 12, generator=generator)
            for part, grad in zip(parts, fused.grad.split(rows), strict=True):
                part.grad = grad.clone()
            one.step()
            many.step()
        torch.testing.assert_close(fused.detach(), torch.cat([p.detach() for p in parts]))

    @pytest.mark.parametrize("shape", [(24, 24), (48, 16), (16, 48)])
    def test_agrees_with_torchs_muon(self, shape: tuple[int, int]) -> None:
        generator = torch.Generator().manual_seed(7)
        start = torch.randn(shape, generator=generator)
        ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
        settings = {"lr": 0.05, "momentum": 0.95, "weight_decay": 0.1}
        one = Muon([ours], **settings)
        other = torch.optim.Muon([theirs], nesterov=True, ns_steps=5, **settings)
        for _ in range(5):
            ours.grad = torch.randn(shape, generator=generator)
            theirs.grad = ours.grad.clone()
            one.step()
            other.step()
        # Theirs iterates in bfloat16 and ours here in float32: 2% of the distance gone.
        moved = (theirs - start).norm()
        assert (ours - theirs).norm() < 0.02 * moved

    def test_parameters_without_a_gradient_stay(self) -> None:
        still, moving = (torch.nn.Parameter(torch.ones(4, 4)) for _ in range(2))
        moving.grad = torch.eye(4)
        Muon([still, moving], lr=0.1, weight_decay=0.5).step()
        assert torch.equal(still.detach(), torch.ones(4, 4))
        assert not torch.equal(moving.detach(), torch.ones(4, 4))


class TestState:
    @pytest.mark.parametrize("name", ["adamw", "muon"])
    def test_is_restored_to_the_bit_and_continues_identically(self, name: str) -> None:
        config = OptimConfig(name=name, lr=1e-2, muon_weight_decay=0.05)  # type: ignore[arg-type]
        model = small_model()
        grads = gradients(model, 7)
        optimizers = build_optimizers(model, config)
        apply(model, optimizers, grads[:3], [1.0, 0.5, 0.5])

        twin = copy.deepcopy(model)
        state = {k: v.clone() for k, v in optimizers.state().items()}
        restored = build_optimizers(twin, config)
        restored.load_state(state)
        again = restored.state()
        assert set(again) == set(state)
        assert all(torch.equal(again[k], state[k]) for k in state)
        assert all(again[k].dtype == state[k].dtype for k in state)
        assert all(v.data_ptr() != state[k].data_ptr() for k, v in again.items())

        rest = [0.4, 0.3, 0.2, 0.1]
        apply(model, optimizers, grads[3:], rest)
        apply(twin, restored, grads[3:], rest)
        for one, two in zip(model.parameters(), twin.parameters(), strict=True):
            assert torch.equal(one, two)

        # Without the state the same steps lead elsewhere, so the equality above says something.
        fresh = copy.deepcopy(twin)
        apply(fresh, build_optimizers(fresh, config), grads[3:4], [0.4])
        apply(twin, restored, grads[3:4], [0.4])
        assert not torch.equal(fresh.embed.weight, twin.embed.weight)

    def test_a_fresh_run_has_none_and_takes_none(self) -> None:
        optimizers = build_optimizers(small_model(), OptimConfig())
        assert optimizers.state() == {}
        optimizers.load_state({})
        assert optimizers.state() == {}

    def test_names_say_whose_they_are(self) -> None:
        model = small_model()
        optimizers = build_optimizers(model, OptimConfig(name="muon"))
        apply(model, optimizers, gradients(model, 1), [1.0])
        state = optimizers.state()
        assert "muon.momentum.blocks.0.attn.qkv.weight" in state
        assert "adamw.exp_avg_sq.embed.weight" in state
        assert all(isinstance(v, Tensor) for v in state.values())

    @pytest.mark.parametrize("trained", ["adamw", "muon"])
    def test_another_optimisers_state_is_refused(self, trained: str) -> None:
        model = small_model()
        optimizers = build_optimizers(model, OptimConfig(name=trained))  # type: ignore[arg-type]
        apply(model, optimizers, gradients(model, 1), [1.0])
        other = "muon" if trained == "adamw" else "adamw"
        into = build_optimizers(small_model(), OptimConfig(name=other))  # type: ignore[arg-type]
        with pytest.raises(UserError, match="does not fit"):
            into.load_state(optimizers.state())
        assert into.state() == {}

    @pytest.mark.parametrize(
        "options", [{"n_layer": 1}, {"n_layer": 3}, {"d_model": 32}, {"d_ff": 24}]
    )
    def test_another_models_state_is_refused(self, options: dict[str, int]) -> None:
        model = small_model(**options)
        optimizers = build_optimizers(model, OptimConfig())
        apply(model, optimizers, gradients(model, 1), [1.0])
        into = build_optimizers(small_model(), OptimConfig())
        with pytest.raises(UserError, match="does not fit"):
            into.load_state(optimizers.state())
        assert into.state() == {}

    def test_state_with_a_hole_is_refused(self) -> None:
        model = small_model()
        optimizers = build_optimizers(model, OptimConfig())
        apply(model, optimizers, gradients(model, 1), [1.0])
        state = optimizers.state()
        del state["adamw.exp_avg.blocks.1.mlp.down.weight"]
        with pytest.raises(UserError, match="missing"):
            build_optimizers(small_model(), OptimConfig()).load_state(state)


def test_updates_do_not_import_the_compiler() -> None:
    """Importing it takes a second of every start; whoever compiles imports it then."""
    program = """
import sys, torch
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.optim.build import build_optimizers
from fromscratch.optim.config import OptimConfig
model = GPT(ModelConfig(n_layer=1, n_head=1, d_model=8, context=4, vocab_size=5))
optimizers = build_optimizers(model, OptimConfig(name="muon"))
model(torch.zeros(1, 4, dtype=torch.long)).nan_to_num(neginf=0).sum().backward()
before = [p.detach().clone() for p in model.parameters()]
optimizers.step()
optimizers.zero_grad()
assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters()))
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=120).returncode == 0
