"""Counts made without a model against the model, and against published numbers."""

import pytest
import torch

from fromscratch.model.config import ModelConfig
from fromscratch.model.count import count_parameters, parameter_shapes
from fromscratch.model.gpt import GPT
from fromscratch.optim.groups import group_parameters
from fromscratch.runs.recipe_files import load_recipe, shipped_recipes


def small(**options):
    shape = {"n_layer": 2, "n_head": 4, "d_model": 24, "context": 10, "vocab_size": 50}
    return ModelConfig(**(shape | options))


GPT2_OPTIONS = [
    {},
    {"qkv_bias": False},
    {"attn_out_bias": False},
    {"mlp_bias": False},
    {"norm_bias": False},
    {"norm_weight": False},
    {"norm_weight": False, "norm_bias": False},
    {"norm_placement": "post"},
    {"positions": "sinusoidal"},
    {"positions": "rope"},
    {"tie_embeddings": False},
    {"tie_embeddings": False, "head_bias": True, "padded_vocab": 64},
    {"extra_attn_proj": True},
    {"extra_attn_proj": True, "attn_out_bias": False},
    {"activation": "swiglu"},
    {"activation": "relu2", "d_ff": 7},
    {"norm": "rmsnorm", "norm_bias": False},
    {"qk_norm": True, "head_dim": 10, "n_kv_head": 2},
]
MODERN_OPTIONS = [
    {},
    {"tie_embeddings": True, "padded_vocab": 64},
    {"n_kv_head": 1, "head_dim": 10},
    {"qkv_bias": True},
    {"mlp_bias": True},
    {"qk_norm": False},
    {"norm_weight": False},
    {"norm": "layernorm"},
    {"norm": "layernorm", "norm_bias": True, "norm_placement": "post"},
    {"activation": "gelu"},
]
CONFIGS = {
    **{name: load_recipe(name).model for name in shipped_recipes(with_model=True)},
    **{f"gpt2 {o}": small(family="gpt2", **o) for o in GPT2_OPTIONS},
    **{f"modern {o}": small(family="modern", **o) for o in MODERN_OPTIONS},
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_shapes_and_counts_equal_those_of_the_built_model(config):
    with torch.device("meta"):
        model = GPT(config)
    built = [(name, tuple(p.shape)) for name, p in model.named_parameters()]
    assert [(s.name, s.shape) for s in parameter_shapes(config)] == built

    counts, groups = count_parameters(config), group_parameters(model)
    assert counts.total == sum(p.numel() for p in model.parameters())
    assert counts.total == sum(counts.by_part.values())
    decayed, rest = groups.decayed, groups.plain
    assert counts.decayed == sum(p.value.numel() for p in decayed)
    assert counts.decayed_tensors == len(decayed)
    assert counts.not_decayed == sum(p.value.numel() for p in rest)
    assert counts.not_decayed_tensors == len(rest)
    names = [p.name for p in (*decayed, *rest)]
    assert sorted(names) == sorted(name for name, _ in built), "each in exactly one group"
    assert all(name.endswith("bias") or "norm" in name for name in (p.name for p in rest))


@pytest.mark.parametrize(
    ("recipe", "overrides", "total"),
    [
        ("rangeflow-124m", [], 124_439_808),
        ("minigpt-124m", [], 124_475_904),
        ("transformer-room-3m", [], 2_967_058),
        ("rtx3090-163m", [], 163_009_536),
        ("fgpt-662m", [], 662_500_800),
        (
            "fgpt-662m",
            ["model.extra_attn_proj=true", "model.qkv_bias=true", "model.attn_out_bias=true"],
            712_540_608,
        ),
    ],
)
def test_recipes_have_exactly_their_systems_parameters(recipe, overrides, total):
    assert count_parameters(load_recipe(recipe, overrides).model).total == total


def test_minigpt_decays_what_its_log_says():
    counts = count_parameters(load_recipe("minigpt-124m").model)
    assert (counts.decayed_tensors, counts.decayed) == (50, 124_354_560)
    assert (counts.not_decayed_tensors, counts.not_decayed) == (98, 121_344)


def test_gpt2_small_without_its_tables_has_85_million():
    counts = count_parameters(load_recipe("rangeflow-124m").model)
    assert counts.by_part["embedding"] == 50257 * 768
    assert counts.by_part["positions"] == 1024 * 768
    assert counts.non_embedding == 12 * (12 * 768**2 + 13 * 768) + 2 * 768
