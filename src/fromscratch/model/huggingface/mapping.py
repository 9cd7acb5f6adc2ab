"""Our weights in Hugging Face's format, and theirs in ours, tensor for tensor.

GPT-2-family models are written as `GPT2LMHeadModel`, modern ones as `Qwen3ForCausalLM`, so that a
checkpoint folder opens in transformers as it is. The mapping only transposes, splits, joins and
fills in the zeros or ones that an option leaves out; it never rounds, so writing and reading back
gives the same bits. A model with options that these classes cannot express is written under our own
names and says why in its config.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from fromscratch.foundation.errors import UserError
from fromscratch.model.config import ModelConfig
from fromscratch.model.count import parameter_shapes
from fromscratch.model.huggingface import gpt2, qwen3
from fromscratch.model.huggingface.tensors import Taker, Tensors, Viewed

OWN_KEY = "fromscratch"
# Rows of these tensors stand for ids, so vocabulary padding is cut from them.
_BY_ID = ("embed.weight", "head.weight", "head.bias")


def why_not_expressible(c: ModelConfig) -> str | None:
    """None when transformers can express the model; else the option that it cannot."""
    reasons = [
        (c.norm_placement != "pre", "norm_placement = post"),
        (c.positions == "sinusoidal", "positions = sinusoidal"),
        (c.extra_attn_proj, "extra_attn_proj"),
        (c.logit_softcap != 0.0, "logit_softcap"),
        (c.head_bias, "head_bias"),
    ]
    if c.positions == "learned":  # the GPT-2 class
        reasons += [
            (c.norm != "layernorm", f"norm = {c.norm} with learned positions"),
            (c.gated, "activation = swiglu with learned positions"),
            (c.qk_norm, "qk_norm with learned positions"),
            (c.n_kv_head != c.n_head, "n_kv_head with learned positions"),
            (c.head_dim * c.n_head != c.d_model, "head_dim with learned positions"),
        ]
    else:  # the Qwen3 class
        reasons += [
            (c.norm != "rmsnorm", f"norm = {c.norm} with rotary positions"),
            (not c.gated, f"activation = {c.activation} with rotary positions"),
            (not c.qk_norm, "no qk_norm with rotary positions"),
            (c.mlp_bias, "mlp_bias with rotary positions"),
        ]
    return next((reason for holds, reason in reasons if holds), None)


def cut_padding(config: ModelConfig, state: Mapping[str, Tensor]) -> tuple[Tensors, Tensors]:
    """Splits a state dict into what other tools see and the rows of the vocabulary's padding.

    Returns:
        The state dict with `vocab_size` rows where ids are rows, and the rows beyond, by name.
    """
    kept = dict(state)
    padding: Tensors = {}
    if config.n_padding:
        for name in _BY_ID:
            if name in kept:
                padding[name] = kept[name][config.vocab_size :]
                kept[name] = kept[name][: config.vocab_size]
    return kept, padding


def join_padding(
    config: ModelConfig, state: Mapping[str, Tensor], padding: Mapping[str, Tensor] | None
) -> Tensors:
    """The inverse of `cut_padding`; without the padding rows, zeros stand in for them.

    Nothing depends on the value of a padding row but continued training, which has the real ones.
    """
    joined = dict(state)
    if config.n_padding:
        for name in _BY_ID:
            if name in joined:
                real = joined[name]
                rows = (padding or {}).get(name)
                if rows is None:
                    rows = real.new_zeros((config.n_padding, *real.shape[1:]))
                joined[name] = torch.cat((real, rows))
    return joined


def to_huggingface(
    config: ModelConfig, state: Mapping[str, Tensor], *, eot_id: int | None
) -> tuple[dict[str, Any], Tensors]:
    """Config and tensors as they are written into a checkpoint folder.

    Args:
        config: The model's configuration.
        state: Its state dict with the padding cut (`cut_padding`).
        eot_id: The id that ends a document.

    Returns:
        The content of config.json and of model.safetensors.
    """
    common: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "tie_word_embeddings": config.tie_embeddings,
        "dtype": "float32",
        "bos_token_id": eot_id,
        "eos_token_id": eot_id,
        OWN_KEY: config.model_dump(),
    }
    reason = why_not_expressible(config)
    if reason is not None:
        own = {
            "model_type": "fromscratch",
            "architectures": ["FromScratchForCausalLM"],
            "not_expressible_in_transformers": reason,
        }
        return common | own, dict(state)
    if config.positions == "learned":
        return common | gpt2.to_config(config), gpt2.to_tensors(config, state)
    return common | qwen3.to_config(config), qwen3.to_tensors(config, state)


def from_huggingface(
    hf: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[ModelConfig, Tensors]:
    """Our config and state dict from a Hugging Face folder's config.json and weights.

    Args:
        hf: The parsed config.json of a GPT-2 or Qwen3 model, written by us or by anyone.
        tensors: Its weights by name; each is asked for once, and none is kept beside what is made
            of it.

    Returns:
        Our configuration, and float32 tensors under our names; padding rows are absent (see
        `join_padding`).

    Raises:
        UserError: An architecture or an option that this package does not have.
    """
    tensors = Viewed(tensors, {name: name for name in tensors}, Tensor.float)
    config = read_config(hf)
    kind = hf["model_type"]
    if kind == "gpt2":
        state = gpt2.from_tensors(config, tensors)
    elif kind == "qwen3":
        state = qwen3.from_tensors(config, tensors)
    else:
        state = dict(tensors)
    _check_fits(config, state)
    return config, state


def read_config(hf: Mapping[str, Any]) -> ModelConfig:
    """Our configuration from a config.json: as we wrote it, else from the keys of transformers.

    Raises:
        UserError: An architecture or an option that this package does not have.
    """
    own, kind = hf.get(OWN_KEY), hf.get("model_type")
    try:
        if own is not None and kind in ("gpt2", "qwen3", "fromscratch"):
            return ModelConfig(**own)
        if kind == "gpt2":
            return gpt2.from_config(hf)
        if kind == "qwen3":
            return qwen3.from_config(hf)
    except KeyError as error:
        raise UserError(f"config.json lacks {error.args[0]}: not a whole {kind} model.") from None
    except ValidationError as error:
        first = error.errors()[0]
        why = first.get("ctx", {}).get("error")
        if not isinstance(why, UserError):
            why = ".".join(map(str, first["loc"])) + ": " + first["msg"]
        raise UserError(
            f"config.json describes a model that cannot be built. {why}",
            regret=why.regret if isinstance(why, UserError) else None,
        ) from None
    raise UserError(
        f'config.json has model_type "{kind}"; this package reads "gpt2" and "qwen3".',
        fix="Use a GPT-2 or dense Qwen3 model folder.",
    )


def _check_fits(config: ModelConfig, state: Mapping[str, Tensor]) -> None:
    """Refuses a state dict (padding cut) that is not exactly the configuration's parameters."""
    take = Taker(state)
    for expected in parameter_shapes(config):
        shape = expected.shape
        if expected.name in _BY_ID:
            shape = (config.vocab_size, *shape[1:])
        found = tuple(take(expected.name).shape)
        if found != shape:
            raise UserError(
                f"The tensor {expected.name} has shape {found} where config.json says {shape}: "
                "config.json and weights do not belong together.",
                regret="R48",
            )
    take.finish()
