"""Qwen3: config and tensors as `Qwen3ForCausalLM` has them, and back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from fromscratch.foundation.errors import UserError
from fromscratch.model.config import ModelConfig
from fromscratch.model.huggingface.tensors import Taker, Tensors, refuse


def to_config(c: ModelConfig) -> dict[str, Any]:
    """The keys of config.json that describe the architecture as Qwen3 spells them."""
    return {
        "model_type": "qwen3",
        "architectures": ["Qwen3ForCausalLM"],
        "hidden_size": c.d_model,
        "intermediate_size": c.d_ff,
        "num_hidden_layers": c.n_layer,
        "num_attention_heads": c.n_head,
        "num_key_value_heads": c.n_kv_head,
        "head_dim": c.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": c.context,
        "initializer_range": c.init_std,
        "rms_norm_eps": c.norm_eps,
        "attention_bias": c.qkv_bias or c.attn_out_bias,
        "attention_dropout": 0.0,
        "use_sliding_window": False,
        # transformers 5 reads rope_parameters; older releases and other tools read rope_theta.
        "rope_theta": c.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": c.rope_theta},
    }


def from_config(hf: Mapping[str, Any]) -> ModelConfig:
    """Our configuration from a Qwen3 config.json; refuses options that we lack."""
    refuse(hf, "use_sliding_window", False)
    refuse(hf, "hidden_act", "silu")
    rope = hf.get("rope_parameters") or hf.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind != "default":
        raise UserError(f'This Qwen3 model scales its rotary positions ("{kind}"), as ours do not.')
    bias = hf.get("attention_bias", False)
    return ModelConfig(
        family="modern",
        n_layer=hf["num_hidden_layers"],
        n_head=hf["num_attention_heads"],
        n_kv_head=hf["num_key_value_heads"],
        head_dim=hf.get("head_dim", 128),
        d_model=hf["hidden_size"],
        d_ff=hf["intermediate_size"],
        context=hf["max_position_embeddings"],
        vocab_size=hf["vocab_size"],
        norm_eps=hf.get("rms_norm_eps", 1e-6),
        init_std=hf.get("initializer_range", 0.02),
        rope_theta=rope.get("rope_theta", hf.get("rope_theta", 10_000.0)),
        tie_embeddings=hf.get("tie_word_embeddings", False),
        qkv_bias=bias,
        attn_out_bias=bias,
    )


def to_tensors(c: ModelConfig, state: Mapping[str, Tensor]) -> Tensors:
    """Tensors under their names, with zeros or ones for what an option leaves out.

    The parts of a fused matrix are views of it: no memory is taken for them here.
    """
    ones = torch.ones
    weight_of: Callable[[str, int], Tensor] = lambda name, n: state.get(name, ones(n))  # noqa: E731
    out = {"model.embed_tokens.weight": state["embed.weight"]}
    for i in range(c.n_layer):
        ours, theirs = f"blocks.{i}", f"model.layers.{i}"
        qkv = state[f"{ours}.attn.qkv.weight"].split(_qkv_rows(c))
        gate, up = state[f"{ours}.mlp.up.weight"].chunk(2)
        out |= {
            f"{theirs}.input_layernorm.weight": weight_of(f"{ours}.attn_norm.weight", c.d_model),
            f"{theirs}.self_attn.q_proj.weight": qkv[0],
            f"{theirs}.self_attn.k_proj.weight": qkv[1],
            f"{theirs}.self_attn.v_proj.weight": qkv[2],
            f"{theirs}.self_attn.o_proj.weight": state[f"{ours}.attn.out.weight"],
            f"{theirs}.self_attn.q_norm.weight": weight_of(
                f"{ours}.attn.q_norm.weight", c.head_dim
            ),
            f"{theirs}.self_attn.k_norm.weight": weight_of(
                f"{ours}.attn.k_norm.weight", c.head_dim
            ),
            f"{theirs}.post_attention_layernorm.weight": weight_of(
                f"{ours}.mlp_norm.weight", c.d_model
            ),
            f"{theirs}.mlp.gate_proj.weight": gate,
            f"{theirs}.mlp.up_proj.weight": up,
            f"{theirs}.mlp.down_proj.weight": state[f"{ours}.mlp.down.weight"],
        }
        if c.qkv_bias or c.attn_out_bias:
            rows = _qkv_rows(c)
            qkv_bias = state.get(f"{ours}.attn.qkv.bias", torch.zeros(sum(rows))).split(rows)
            for name, bias in zip("qkv", qkv_bias, strict=True):
                out[f"{theirs}.self_attn.{name}_proj.bias"] = bias
            out[f"{theirs}.self_attn.o_proj.bias"] = state.get(
                f"{ours}.attn.out.bias", torch.zeros(c.d_model)
            )
    out["model.norm.weight"] = weight_of("final_norm.weight", c.d_model)
    if not c.tie_embeddings:
        out["lm_head.weight"] = state["head.weight"]
    return out


def from_tensors(c: ModelConfig, tensors: Mapping[str, Tensor]) -> Tensors:
    """Our state dict from theirs; every tensor is used, none is missing."""
    take = Taker(tensors)
    out = {"embed.weight": take("model.embed_tokens.weight")}
    for i in range(c.n_layer):
        ours, theirs = f"blocks.{i}", f"model.layers.{i}"
        attn = f"{theirs}.self_attn"
        out[f"{ours}.attn.qkv.weight"] = torch.cat([take(f"{attn}.{n}_proj.weight") for n in "qkv"])
        out[f"{ours}.attn.out.weight"] = take(f"{attn}.o_proj.weight")
        out[f"{ours}.mlp.up.weight"] = torch.cat(
            [take(f"{theirs}.mlp.{n}_proj.weight") for n in ("gate", "up")]
        )
        out[f"{ours}.mlp.down.weight"] = take(f"{theirs}.mlp.down_proj.weight")
        for our_norm, their_norm in (
            ("attn_norm", "input_layernorm"),
            ("attn.q_norm", "self_attn.q_norm"),
            ("attn.k_norm", "self_attn.k_norm"),
            ("mlp_norm", "post_attention_layernorm"),
        ):
            take.put(out, c, f"{ours}.{our_norm}.weight", take(f"{theirs}.{their_norm}.weight"))
        if c.qkv_bias or c.attn_out_bias:
            bias = torch.cat([take(f"{attn}.{n}_proj.bias") for n in "qkv"])
            take.put(out, c, f"{ours}.attn.qkv.bias", bias)
            take.put(out, c, f"{ours}.attn.out.bias", take(f"{attn}.o_proj.bias"))
    take.put(out, c, "final_norm.weight", take("model.norm.weight"))
    take.head(out, c)
    take.finish()
    return out


def _qkv_rows(c: ModelConfig) -> list[int]:
    return [c.n_head * c.head_dim, c.n_kv_head * c.head_dim, c.n_kv_head * c.head_dim]
