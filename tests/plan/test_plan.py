"""What is promised before a run is what the run takes; and nobody needs torch to ask."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fromscratch.checkpoint.state import Progress, TrainState
from fromscratch.foundation.hardware import ACCELERATORS
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.optim.build import build_optimizers
from fromscratch.optim.config import OptimConfig
from fromscratch.plan.compute import ASSUMED_MFU, chinchilla_tokens, times
from fromscratch.plan.memory import checkpoint_bytes, optimizer_bytes, step_memory
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
    assert two.logits == 2 * one.logits
    assert two.total - one.total == one.activations + one.logits
    half = step_memory(model, optim, micro_batch=2, half=True)
    assert half.activations < two.activations
    assert half.gradients == two.gradients


@pytest.mark.parametrize("family", ["gpt2", "modern"])
def test_activations_are_about_what_autograd_keeps(family: str) -> None:
    config = ModelConfig(**(SHAPE | {"family": family, "d_model": 192, "n_layer": 6}))
    model = GPT(config)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    batch = 8
    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        ids = torch.zeros(batch, config.context, dtype=torch.long)
        hidden = model.hidden(ids)
    assert hidden.requires_grad
    estimate = step_memory(config, OptimConfig(), micro_batch=batch, half=False).activations
    assert 0.7 < estimate / sum(kept.values()) < 1.4


def test_chinchilla() -> None:
    # Hoffmann et al. (2022), table 3: 400 million parameters, 8.0 billion tokens; 70B, 1.4T.
    assert chinchilla_tokens(400_000_000) == 8_000_000_000
    assert chinchilla_tokens(67_000_000_000) == pytest.approx(1.5e12, rel=0.15)


def test_times() -> None:
    rows = times(1e20)
    assert [r.key for r in rows] == [a.key for a in ACCELERATORS]
    a100 = next(r for r in rows if r.key == "a100")
    # 1e20 / (0.4 * 312e12) = 801,282 seconds.
    assert ASSUMED_MFU == 0.4
    assert a100.hours == pytest.approx(801_282 / 3600, rel=1e-5)


def test_planning_every_recipe_imports_no_torch() -> None:
    program = """
import json, sys
from fromscratch.runs.recipe_files import load_recipe, shipped_recipes
from fromscratch.runs.planning import make_plan
plans = {name: make_plan(load_recipe(name)).to_json() for name in shipped_recipes()}
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
