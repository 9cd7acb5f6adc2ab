"""Our weights in Hugging Face's format, and theirs in ours, tensor for tensor.

GPT-2-family models are written as `GPT2LMHeadModel`, modern ones as `Qwen3ForCausalLM`, so that a
checkpoint folder opens in transformers as it is. The mapping only transposes, splits, joins and
fills in the zeros or ones that an option leaves out; it never rounds, so writing and reading back
gives the same bits. A model with options that these classes cannot express is written under our own
names and says why in its config.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from fromscratch.foundation.errors import UserError
from fromscratch.model.config import ModelConfig
from fromscratch.model.count import parameter_shapes

OWN_KEY = "fromscratch"
_GPT2_ACTIVATION = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu", "relu2": "relu2"}
# Rows of these tensors stand for ids, so vocabulary padding is cut from them.
_BY_ID = ("embed.weight", "head.weight", "head.bias")

Tensors = dict[str, Tensor]


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
        return common | _gpt2_config(config), _to_gpt2(config, state)
    return common | _qwen3_config(config), _to_qwen3(config, state)


def from_huggingface(
    hf: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> tuple[ModelConfig, Tensors]:
    """Our config and state dict from a Hugging Face folder's config.json and weights.

    Args:
        hf: The parsed config.json of a GPT-2 or Qwen3 model, written by us or by anyone.
        tensors: Its weights by name.

    Returns:
        Our configuration, and float32 tensors under our names; padding rows are absent (see
        `join_padding`).

    Raises:
        UserError: An architecture or an option that this package does not have.
    """
    tensors = {name: tensor.float() for name, tensor in tensors.items()}
    config = _read_config(hf)
    kind = hf["model_type"]
    if kind == "gpt2":
        state = _from_gpt2(config, tensors)
    elif kind == "qwen3":
        state = _from_qwen3(config, tensors)
    else:
        state = dict(tensors)
    _check_fits(config, state)
    return config, state


def _read_config(hf: Mapping[str, Any]) -> ModelConfig:
    """Our configuration: as we wrote it, else from the keys of transformers."""
    own, kind = hf.get(OWN_KEY), hf.get("model_type")
    try:
        if own is not None and kind in ("gpt2", "qwen3", "fromscratch"):
            return ModelConfig(**own)
        if kind == "gpt2":
            return _config_from_gpt2(hf)
        if kind == "qwen3":
            return _config_from_qwen3(hf)
    except KeyError as error:
        raise UserError(f"config.json lacks {error.args[0]}: not a whole {kind} model.") from None
    except ValidationError as error:
        first = error.errors()[0]
        why = first.get("ctx", {}).get("error")
        if not isinstance(why, UserError):
            why = ".".join(map(str, first["loc"])) + ": " + first["msg"]
        raise UserError(f"config.json describes a model that cannot be built. {why}") from None
    raise UserError(
        f'config.json has model_type "{kind}"; this package reads "gpt2" and "qwen3".',
        fix="Use a GPT-2 or dense Qwen3 model folder.",
    )


def _check_fits(config: ModelConfig, state: Mapping[str, Tensor]) -> None:
    """Refuses a state dict (padding cut) that is not exactly the configuration's parameters."""
    take = _Taker(dict(state))
    for expected in parameter_shapes(config):
        shape = expected.shape
        if expected.name in _BY_ID:
            shape = (config.vocab_size, *shape[1:])
        found = tuple(take(expected.name).shape)
        if found != shape:
            raise UserError(
                f"The tensor {expected.name} has shape {found} where config.json says {shape}: "
                "config.json and weights do not belong together."
            )
    take.finish()


# --- GPT-2 ----------------------------------------------------------------------------------------


def _gpt2_config(c: ModelConfig) -> dict[str, Any]:
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "n_positions": c.context,
        "n_embd": c.d_model,
        "n_layer": c.n_layer,
        "n_head": c.n_head,
        "n_inner": c.d_ff,
        "activation_function": _GPT2_ACTIVATION[c.activation],
        "layer_norm_epsilon": c.norm_eps,
        "initializer_range": c.init_std,
        "resid_pdrop": c.dropout,
        "embd_pdrop": c.dropout,
        "attn_pdrop": c.dropout,
    }


def _config_from_gpt2(hf: Mapping[str, Any]) -> ModelConfig:
    activations = {theirs: ours for ours, theirs in _GPT2_ACTIVATION.items()}
    activations["gelu_pytorch_tanh"] = "gelu_tanh"
    activation = hf.get("activation_function", "gelu_new")
    if activation not in activations:
        raise UserError(f'This GPT-2 model has activation "{activation}", which we do not have.')
    _refuse(hf, "scale_attn_by_inverse_layer_idx", False)
    _refuse(hf, "scale_attn_weights", True)
    _refuse(hf, "add_cross_attention", False)
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
_GPT2_BLOCK = {
    "attn_norm": ("ln_1", False),
    "attn.qkv": ("attn.c_attn", True),
    "attn.out": ("attn.c_proj", True),
    "mlp_norm": ("ln_2", False),
    "mlp.up": ("mlp.c_fc", True),
    "mlp.down": ("mlp.c_proj", True),
}


def _gpt2_modules(c: ModelConfig) -> list[tuple[str, str, bool]]:
    """(our module, their module, transposed) for everything that has a weight and a bias."""
    rows = [
        (f"blocks.{i}.{ours}", f"transformer.h.{i}.{theirs}", flip)
        for i in range(c.n_layer)
        for ours, (theirs, flip) in _GPT2_BLOCK.items()
    ]
    return [*rows, ("final_norm", "transformer.ln_f", False)]


def _to_gpt2(c: ModelConfig, state: Mapping[str, Tensor]) -> Tensors:
    out = {
        "transformer.wte.weight": state["embed.weight"],
        "transformer.wpe.weight": state["positions.weight"],
    }
    for ours, theirs, flip in _gpt2_modules(c):
        weight = state.get(f"{ours}.weight")
        if weight is None:  # norm_weight = false
            weight = torch.ones(c.d_model)
        out[f"{theirs}.weight"] = weight.t().contiguous() if flip else weight
        bias = state.get(f"{ours}.bias")
        out[f"{theirs}.bias"] = bias if bias is not None else torch.zeros(weight.shape[0])
    if not c.tie_embeddings:
        out["lm_head.weight"] = state["head.weight"]
    return out


def _from_gpt2(c: ModelConfig, tensors: Mapping[str, Tensor]) -> Tensors:
    # OpenAI's own files lack the prefix and carry the causal mask as "bias"; see R20.
    named = {
        n if n.startswith(("transformer.", "lm_head.")) else f"transformer.{n}": t
        for n, t in tensors.items()
        if not n.endswith((".attn.bias", ".attn.masked_bias"))
    }
    take = _Taker(named)
    out = {
        "embed.weight": take("transformer.wte.weight"),
        "positions.weight": take("transformer.wpe.weight"),
    }
    for ours, theirs, flip in _gpt2_modules(c):
        weight = take(f"{theirs}.weight")
        take.put(out, c, f"{ours}.weight", weight.t().contiguous() if flip else weight)
        take.put(out, c, f"{ours}.bias", take(f"{theirs}.bias"))
    take.head(out, c)
    take.finish()
    return out


# --- Qwen3 ----------------------------------------------------------------------------------------


def _qwen3_config(c: ModelConfig) -> dict[str, Any]:
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


def _config_from_qwen3(hf: Mapping[str, Any]) -> ModelConfig:
    _refuse(hf, "use_sliding_window", False)
    _refuse(hf, "hidden_act", "silu")
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


def _to_qwen3(c: ModelConfig, state: Mapping[str, Tensor]) -> Tensors:
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
    return {name: tensor.contiguous() for name, tensor in out.items()}


def _from_qwen3(c: ModelConfig, tensors: Mapping[str, Tensor]) -> Tensors:
    take = _Taker(dict(tensors))
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


# --- both -----------------------------------------------------------------------------------------


class _Taker:
    """Takes tensors by name; what is missing or left over is an error, never a silent default."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.left = tensors

    def __call__(self, name: str) -> Tensor:
        if name not in self.left:
            raise UserError(f"The weights lack the tensor {name}: not a whole model.")
        return self.left.pop(name)

    def put(self, out: Tensors, config: ModelConfig, name: str, tensor: Tensor) -> None:
        """Keeps a tensor that our config has; one it has not must be what it was filled with."""
        is_bias = name.endswith("bias")
        if _has(config, name):
            out[name] = tensor
        elif not torch.equal(tensor, torch.full_like(tensor, 0.0 if is_bias else 1.0)):
            raise UserError(
                f"The weights hold values for {name}, which the model's configuration leaves out."
            )

    def head(self, out: Tensors, config: ModelConfig) -> None:
        """Keeps an untied head; a tied one may be there too, if it is the embedding again."""
        head = self.left.pop("lm_head.weight", None)
        if not config.tie_embeddings:
            if head is None:
                raise UserError("The weights lack lm_head.weight, though their config says untied.")
            out["head.weight"] = head
        elif head is not None and not torch.equal(head, out["embed.weight"]):
            raise UserError(
                "The weights hold an lm_head.weight of its own, though their config says that it "
                "is tied to the embedding."
            )

    def finish(self) -> None:
        if self.left:
            names = ", ".join(sorted(self.left)[:3])
            raise UserError(
                f"The weights hold {len(self.left)} tensors that the model has no place for "
                f"({names}, ...): config.json and weights do not belong together."
            )


def _has(c: ModelConfig, name: str) -> bool:
    """Whether our network has the norm weight or bias called `name`."""
    if name.endswith("weight"):
        return c.norm_weight or "norm" not in name
    if "norm" in name:
        return c.norm_bias
    if "attn.qkv" in name:
        return c.qkv_bias
    return c.attn_out_bias if "attn" in name else c.mlp_bias


def _refuse(hf: Mapping[str, Any], key: str, supported: Any) -> None:
    if hf.get(key, supported) != supported:
        raise UserError(f"The model's config has {key} = {hf[key]}, which this package lacks.")
