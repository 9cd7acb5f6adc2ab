"""GPT-2: config and tensors as `GPT2LMHeadModel` has them, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from fromscratch.foundation.errors import UserError
from fromscratch.model.config import ModelConfig
from fromscratch.model.huggingface.tensors import Taker, Tensors, Viewed, refuse

_ACTIVATION = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu", "relu2": "relu2"}


def to_config(c: ModelConfig) -> dict[str, Any]:
    """The keys of config.json that describe the architecture as GPT-2 spells them."""
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "n_positions": c.context,
        "n_embd": c.d_model,
        "n_layer": c.n_layer,
        "n_head": c.n_head,
        "n_inner": c.d_ff,
        "activation_function": _ACTIVATION[c.activation],
        "layer_norm_epsilon": c.norm_eps,
        "initializer_range": c.init_std,
        "resid_pdrop": c.dropout,
        "embd_pdrop": c.dropout,
        "attn_pdrop": c.dropout,
    }


def from_config(hf: Mapping[str, Any]) -> ModelConfig:
    """Our configuration from a GPT-2 config.json; refuses options that we lack."""
    activations = {theirs: ours for ours, theirs in _ACTIVATION.items()}
    activations["gelu_pytorch_tanh"] = "gelu_tanh"
    activation = hf.get("activation_function", "gelu_new")
    if activation not in activations:
        raise UserError(f'This GPT-2 model has activation "{activation}", which we do not have.')
    refuse(hf, "scale_attn_by_inverse_layer_idx", False)
    refuse(hf, "scale_attn_weights", True)
    refuse(hf, "add_cross_attention", False)
    width = hf["n_embd"]
    return ModelConfig(
        family="gpt2",
        n_layer=hf["n_layer"],
        n_head=hf["n_head"],
        d_model=width,
        d_ff=hf.get("n_inner") or 4 * width,
        context=hf["n_positions"],
        vocab_size=hf["vocab_size"],
        activation=activations[activation],
        norm_eps=hf.get("layer_norm_epsilon", 1e-5),
        init_std=hf.get("initializer_range", 0.02),
        dropout=hf.get("resid_pdrop", 0.0),
        tie_embeddings=hf.get("tie_word_embeddings", True),
    )


# Our module inside a block -> (theirs, whether it is a matrix that Conv1D stores transposed).
_BLOCK = {
    "attn_norm": ("ln_1", False),
    "attn.qkv": ("attn.c_attn", True),
    "attn.out": ("attn.c_proj", True),
    "mlp_norm": ("ln_2", False),
    "mlp.up": ("mlp.c_fc", True),
    "mlp.down": ("mlp.c_proj", True),
}


def _modules(c: ModelConfig) -> list[tuple[str, str, bool]]:
    """(our module, their module, transposed) for everything that has a weight and a bias."""
    rows = [
        (f"blocks.{i}.{ours}", f"transformer.h.{i}.{theirs}", flip)
        for i in range(c.n_layer)
        for ours, (theirs, flip) in _BLOCK.items()
    ]
    return [*rows, ("final_norm", "transformer.ln_f", False)]


def to_tensors(c: ModelConfig, state: Mapping[str, Tensor]) -> Tensors:
    """Tensors under their names, with zeros or ones for what an option leaves out.

    Matrices are transposed views: no memory is taken for them here.
    """
    out = {
        "transformer.wte.weight": state["embed.weight"],
        "transformer.wpe.weight": state["positions.weight"],
    }
    for ours, theirs, flip in _modules(c):
        weight = state.get(f"{ours}.weight")
        if weight is None:  # norm_weight = false
            weight = torch.ones(c.d_model)
        out[f"{theirs}.weight"] = weight.t() if flip else weight
        bias = state.get(f"{ours}.bias")
        out[f"{theirs}.bias"] = bias if bias is not None else torch.zeros(weight.shape[0])
    if not c.tie_embeddings:
        out["lm_head.weight"] = state["head.weight"]
    return out


def from_tensors(c: ModelConfig, tensors: Mapping[str, Tensor]) -> Tensors:
    """Our state dict from theirs; every tensor is used, none is missing; matrices are views."""
    # OpenAI's own files lack the prefix and carry the causal mask as "bias"; see R20.
    names = {
        n if n.startswith(("transformer.", "lm_head.")) else f"transformer.{n}": n
        for n in tensors
        if not n.endswith((".attn.bias", ".attn.masked_bias"))
    }
    take = Taker(Viewed(tensors, names, lambda tensor: tensor))
    out = {
        "embed.weight": take("transformer.wte.weight"),
        "positions.weight": take("transformer.wpe.weight"),
    }
    for ours, theirs, flip in _modules(c):
        weight = take(f"{theirs}.weight")
        take.put(out, c, f"{ours}.weight", weight.t() if flip else weight)
        take.put(out, c, f"{ours}.bias", take(f"{theirs}.bias"))
    take.head(out, c)
    take.finish()
    return out
