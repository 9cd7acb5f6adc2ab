"""Every parameter is in exactly one group, whatever the options; decay falls on matrices only."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fromscratch.foundation.schedules import StepSettings
from fromscratch.model.config import ModelConfig
from fromscratch.model.count import count_parameters
from fromscratch.model.gpt import GPT
from fromscratch.optim.build import build_optimizers
from fromscratch.optim.config import OptimConfig
from fromscratch.optim.groups import group_parameters, row_blocks


@st.composite
def configs(draw: st.DrawFn) -> ModelConfig:
    flags = ("qkv_bias", "attn_out_bias", "mlp_bias", "norm_weight", "extra_attn_proj", "qk_norm")
    options: dict[str, Any] = {flag: draw(st.booleans()) for flag in flags}
    options["norm"] = draw(st.sampled_from(["layernorm", "rmsnorm"]))
    options["norm_bias"] = draw(st.booleans()) and options["norm"] == "layernorm"
    options["tie_embeddings"] = draw(st.booleans())
    options["head_bias"] = draw(st.booleans()) and not options["tie_embeddings"]
    options["activation"] = draw(st.sampled_from(["gelu", "relu2", "swiglu"]))
    options["positions"] = draw(st.sampled_from(["learned", "sinusoidal", "rope"]))
    options["norm_placement"] = draw(st.sampled_from(["pre", "post"]))
    options["n_kv_head"] = draw(st.sampled_from([1, 2, 4]))
    options["n_layer"] = draw(st.integers(1, 3))
    return ModelConfig(n_head=4, d_model=16, context=8, vocab_size=11, padded_vocab=16, **options)


@settings(max_examples=60)
@given(config=configs(), name=st.sampled_from(["adamw", "muon"]))
def test_every_parameter_is_owned_once_and_decayed_as_counted(
    config: ModelConfig, name: str
) -> None:
    model = GPT(config)
    parameters = dict(model.named_parameters())
    groups = group_parameters(model)
    named = [*groups.hidden, *groups.embed, *groups.head, *groups.plain]
    assert sorted(p.name for p in named) == sorted(parameters)
    assert all(p.value is parameters[p.name] for p in named)

    optimizers = build_optimizers(model, OptimConfig(name=name, muon_weight_decay=0.1))  # type: ignore[arg-type]
    owned = [
        (p, group["weight_decay"] > 0)
        for member in optimizers.members
        for group in member.optimizer.param_groups
        for p in group["params"]
    ]
    assert sorted(id(p) for p, _ in owned) == sorted(map(id, parameters.values()))
    for parameter, decayed in owned:
        assert decayed == (parameter.ndim >= 2)
    counts = count_parameters(config)
    assert sum(p.numel() for p, decayed in owned if decayed) == counts.decayed
    assert sum(1 for _, decayed in owned if decayed) == counts.decayed_tensors
    assert sum(p.numel() for p, decayed in owned if not decayed) == counts.not_decayed
    assert [p.name for member in optimizers.members for p in member.parameters] != []

    for member in optimizers.members:
        in_groups = [p for g in member.optimizer.param_groups for p in g["params"]]
        assert [id(p.value) for p in member.parameters] == [id(p) for p in in_groups]

    blocks = row_blocks(model)
    for block_name, rows in blocks.items():
        assert sum(rows) == parameters[block_name].shape[0]
    assert set(blocks) <= {p.name for p in groups.hidden}


def test_embeddings_and_head_never_go_to_muon() -> None:
    model = GPT(
        ModelConfig(n_layer=1, n_head=2, d_model=8, context=8, vocab_size=10, positions="learned")
    )
    members = {m.name: m for m in build_optimizers(model, OptimConfig(name="muon")).members}
    names = {p.name for p in members["muon"].parameters}
    assert names == {f"blocks.0.{n}.weight" for n in ("attn.qkv", "attn.out", "mlp.up", "mlp.down")}
    assert {"embed.weight", "positions.weight", "head.weight"} <= {
        p.name for p in members["adamw"].parameters
    }


def test_learning_rates_by_group() -> None:
    model = GPT(ModelConfig(n_layer=1, n_head=2, d_model=8, context=8, vocab_size=10))
    config = OptimConfig(
        name="muon", lr=1e-3, embed_lr=2e-3, head_lr=3e-3, plain_lr=4e-3, muon_lr=5e-2
    )
    optimizers = build_optimizers(model, config)
    optimizers.put_in_force(StepSettings(lr=0.5))
    rates = {
        p.name: group["lr"]
        for member in optimizers.members
        for group in member.optimizer.param_groups
        for p in member.parameters
        if any(p.value is q for q in group["params"])
    }
    assert rates["embed.weight"] == pytest.approx(1e-3)
    assert rates["head.weight"] == pytest.approx(1.5e-3)
    assert rates["final_norm.weight"] == pytest.approx(2e-3)
    assert rates["blocks.0.mlp.up.weight"] == pytest.approx(2.5e-2)
    optimizers.put_in_force(
        StepSettings()
    )  # a fraction of the peak, and not of what was set before
    assert optimizers.members[0].optimizer.param_groups[0]["lr"] == 2e-3
