"""What is promised before a run is what the run takes; and nobody needs torch to ask."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fromscratch.checkpoint.state import Progress, TrainState
from fromscratch.foundation.accelerators import ACCELERATORS
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.optim.build import build_optimizers
from fromscratch.optim.config import OptimConfig
from fromscratch.plan.compute import ASSUMED_MFU, chinchilla_tokens, times
from fromscratch.plan.memory import (
    LOGITS_CHUNK_BYTES,
    checkpoint_bytes,
    divisors,
    largest_micro_batch,
    optimizer_bytes,
    step_memory,
)
from fromscratch.runs.recipe_files import load_recipe
from fromscratch.tokenizer.build import bytes_tokenizer

SHAPE = {"n_layer": 4, "n_head": 4, "d_model": 128, "context": 64, "vocab_size": 257}


def trained(model_config: ModelConfig, optim: OptimConfig) -> TrainState:
    """A run after one update, so that the optimiser has all its state."""
    model = GPT(model_config)
    optimizers = build_optimizers(model, optim)
    ids = torch.zeros(1, 8, dtype=torch.long)
    logits = model(ids)[..., : model_config.vocab_size]
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids.flatten()).backward()
    optimizers.step()
    progress = Progress(
        seed=0, data_fingerprint="d", tokenizer_fingerprint="t", recipe_hash="r", step=1
    )
    return TrainState(model, optimizers, bytes_tokenizer(), "", progress)


@pytest.mark.parametrize("name", ["adamw", "adamw8bit", "muon"])
@pytest.mark.parametrize(
    "options",
    [
        {"family": "gpt2"},
        {"family": "gpt2", "tie_embeddings": False, "qkv_bias": False, "padded_vocab": 384},
        {"family": "modern"},
        {"family": "modern", "n_kv_head": 2, "tie_embeddings": True, "padded_vocab": 512},
    ],
)
def test_checkpoint_bytes_are_those_of_a_checkpoint(
    tmp_path: Path, options: dict, name: str
) -> None:
    model = ModelConfig(**(SHAPE | options))
    optim = OptimConfig(name=name)  # type: ignore[arg-type]
    trained(model, optim).write(tmp_path)
    on_disk = sum(
        p.stat().st_size for p in tmp_path.iterdir() if not p.name.startswith("tokenizer")
    )
    assert checkpoint_bytes(model, optim) == pytest.approx(on_disk, rel=0.02)


@pytest.mark.parametrize("name", ["adamw", "adamw8bit", "muon"])
def test_optimizer_bytes_are_those_of_its_state(name: str) -> None:
    model = ModelConfig(**SHAPE)
    optim = OptimConfig(name=name)  # type: ignore[arg-type]
    state = trained(model, optim).optimizers.state()
    moments = sum(t.numel() * t.element_size() for k, t in state.items() if ".step." not in k)
    assert optimizer_bytes(model, optim) == moments


def test_eight_bits_take_a_quarter_at_a_real_size() -> None:
    model = ModelConfig(
        family="gpt2", n_layer=12, n_head=12, d_model=768, context=1024, vocab_size=50257
    )
    full = optimizer_bytes(model, OptimConfig())
    assert 0.25 * full < optimizer_bytes(model, OptimConfig(name="adamw8bit")) < 0.26 * full


def test_step_memory_adds_up_and_grows_with_what_it_should() -> None:
    model, optim = ModelConfig(**SHAPE), OptimConfig()
    one, two = (step_memory(model, optim, micro_batch=b, half=False) for b in (1, 2))
    parameters = sum(p.numel() for p in GPT(model).parameters())
    assert one.weights == one.gradients == 4 * parameters
    assert one.optimizer == 8 * parameters
    assert two.activations == 2 * one.activations
    half = step_memory(model, optim, micro_batch=2, half=True)
    assert half.activations < two.activations
    assert half.gradients == two.gradients
    again = step_memory(model, optim, micro_batch=2, half=True, activation_checkpointing=True)
    # Of each of the four blocks its input alone, but of one all that is computed again.
    inputs = 4 * 128 * 4 * 2 * 64
    saved = half.activations - again.activations
    assert again.activations > inputs
    assert 0.6 < (saved + inputs) / (3 / 4 * half.activations) < 1.1


def test_the_head_takes_a_chunk_of_logits_whatever_the_batch() -> None:
    model, optim = ModelConfig(**(SHAPE | {"vocab_size": 50_257})), OptimConfig()
    many, more = (step_memory(model, optim, micro_batch=b, half=True).logits for b in (64, 128))
    assert more - many == 64 * 64 * 128 * 4  # only the gradient by its inputs, float32
    head = 50_257 * 128
    assert many == head * 6 + 64 * 64 * 128 * 4 + 5 * LOGITS_CHUNK_BYTES // 2
    code = pytest.importorskip("fromscratch.model.cross_entropy")
    assert code.CHUNK_BYTES == LOGITS_CHUNK_BYTES


def kept_by_autograd(config: ModelConfig, batch: int, *, half: bool) -> int:
    """Bytes that a real forward pass leaves for the backward pass, without weights' copies."""
    model = GPT(config)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    shapes = {frozenset(p.shape) for p in model.parameters() if p.ndim == 2}
    kept: dict[int, int] = {}
    alive = []  # so that no address is used twice

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        rows = batch * config.context
        copy = tensor.dtype == torch.bfloat16 and frozenset(tensor.shape) in shapes
        if storage.data_ptr() not in weights and not (copy and rows not in tensor.shape):
            kept[storage.data_ptr()] = storage.nbytes()
        alive.append(tensor)
        return tensor

    autocast = torch.autocast("cpu", dtype=torch.bfloat16, enabled=half)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t), autocast:
        ids = torch.zeros(batch, config.context, dtype=torch.long)
        assert model.hidden(ids).requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {"family": "gpt2"},
        {"family": "gpt2", "dropout": 0.1, "qkv_bias": False},
        {"family": "gpt2", "norm_placement": "post", "d_ff": 512},
        {"family": "modern"},
        {"family": "modern", "n_kv_head": 1, "n_layer": 6},
        {"family": "modern", "dropout": 0.1},
    ],
)
def test_activations_are_what_autograd_keeps(options: dict, half: bool) -> None:
    config = ModelConfig(**(SHAPE | {"d_model": 192, "context": 160} | options))
    estimate = step_memory(config, OptimConfig(), micro_batch=2, half=half, on_cpu=True)
    assert estimate.activations == pytest.approx(kept_by_autograd(config, 2, half=half), rel=0.1)


def test_a_3090_holds_the_batch_of_its_recipe_three_times() -> None:
    recipe = load_recipe("rtx3090-163m")
    step = step_memory(recipe.model, recipe.optim, micro_batch=6, half=True)
    assert 4 * 2**30 < step.total < 8 * 2**30
    fits = largest_micro_batch(
        recipe.model, recipe.optim, [6, 18, 600], memory_bytes=24 * 2**30, half=True
    )
    assert fits == 18
    tiny = largest_micro_batch(recipe.model, recipe.optim, [1], memory_bytes=2**30, half=True)
    assert tiny is None


@given(st.integers(1, 5000))
def test_divisors(number: int) -> None:
    assert divisors(number) == [n for n in range(1, number + 1) if number % n == 0]


def test_chinchilla() -> None:
    # Hoffmann et al. (2022), table 3: 400 million parameters, 8.0 billion tokens; 70B, 1.4T.
    assert chinchilla_tokens(400_000_000) == 8_000_000_000
    assert chinchilla_tokens(67_000_000_000) == pytest.approx(1.5e12, rel=0.15)


def test_times() -> None:
    rows = times(1e20)
    assert [r.key for r in rows] == [a.key for a in ACCELERATORS]
    a100, t4 = (next(r for r in rows if r.key == key) for key in ("a100", "t4"))
    # 1e20 / (0.4 * 312e12) = 801,282 seconds, at $1.00 an hour.
    assert ASSUMED_MFU == 0.4
    assert a100.hours == pytest.approx(801_282 / 3600, rel=1e-5)
    assert a100.cost == pytest.approx(222.58, rel=1e-4)
    assert (a100.precision, t4.precision) == ("bf16", "fp16")
    assert t4.hours == pytest.approx(1e20 / (0.4 * 65e12) / 3600)


def test_a_precision_that_a_card_lacks_is_not_planned_with() -> None:
    rows = {r.key: r for r in times(1e20, "tf32", mfu=0.5)}
    assert rows["v100"].precision == "fp16"
    assert rows["a100"].hours == pytest.approx(1e20 / (0.5 * 156e12) / 3600)


def test_planning_every_recipe_imports_no_torch() -> None:
    program = """
import json, sys
from fromscratch.runs.recipe_files import load_recipe, shipped_recipes
from fromscratch.runs.planning import make_plan
plans = {name: make_plan(load_recipe(name)).to_json() for name in shipped_recipes(with_model=True)}
heavy = [m for m in ("torch", "numpy", "tokenizers", "transformers") if m in sys.modules]
print(json.dumps([heavy, plans]))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    heavy, plans = json.loads(done.stdout)
    assert heavy == []
    assert {"try", "modern-124m", "minigpt-124m", "rtx3090-163m", "fgpt-662m"} <= set(plans)
    for plan in plans.values():
        assert plan["parameters"]["total"] > 0
        assert plan["checkpoint_bytes"] > 4 * plan["parameters"]["total"]


@pytest.mark.parametrize(
    "module", ["fromscratch", "fromscratch.plan.memory", "fromscratch.runs.recipe"]
)
def test_these_modules_import_no_torch(module: str) -> None:
    program = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
