"""The architecture of a model, complete and checked.

A `ModelConfig` says everything that shapes the network; nothing about a model is guessed from its
weights. `family` chooses the defaults of the options, and any option can then be set by itself.
This file does not import torch, so that `plan` answers at once.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.settings import Share, Table, Tokens

Family = Literal["gpt2", "modern"]

_FAMILY_DEFAULTS: dict[str, dict[str, Any]] = {
    "gpt2": {
        "positions": "learned",
        "norm": "layernorm",
        "norm_eps": 1e-5,
        "activation": "gelu_tanh",
        "qkv_bias": True,
        "attn_out_bias": True,
        "mlp_bias": True,
        "norm_bias": True,
        "qk_norm": False,
        "tie_embeddings": True,
        "init": "gpt2",
    },
    "modern": {
        "positions": "rope",
        "norm": "rmsnorm",
        "norm_eps": 1e-6,
        "activation": "swiglu",
        "qkv_bias": False,
        "attn_out_bias": False,
        "mlp_bias": False,
        "norm_bias": False,
        "qk_norm": True,
        "tie_embeddings": False,
        "init": "zero_out",
    },
}


class ModelConfig(Table):
    """Shape and options of one decoder-only transformer.

    Every option that is left out takes its family's default: `gpt2` is GPT-2 (Radford et al. 2019),
    `modern` is the dense architecture of Qwen3 (2025). After validation no field is None.
    """

    family: Family = "modern"
    """The defaults of all options: `gpt2`, or `modern` (Qwen3's dense architecture)."""
    n_layer: int = Field(ge=1)
    """Blocks of attention and MLP."""
    n_head: int = Field(ge=1)
    """Heads of attention in each block; they divide `d_model`, unless `head_dim` is given."""
    d_model: int = Field(ge=1)
    """Width: numbers that stand for a token between blocks."""
    context: Tokens = Field(ge=1)
    """The longest sequence."""
    vocab_size: Tokens = Field(ge=2)
    """Real ids; everything at or above is padding. Left out: the tokenizer's."""

    n_kv_head: int = Field(default=0, ge=0)
    """Heads of keys and values, each for several of `n_head`; 0: as many as `n_head`."""
    head_dim: int = Field(default=0, ge=0)
    """Width of a head; 0: `d_model` / `n_head`."""
    d_ff: int = Field(default=0, ge=0)
    """Width inside the MLP; 0: 4 `d_model`, or 8/3 of it with `swiglu`, up to a multiple of 8."""
    padded_vocab: Tokens = Field(default=0, ge=0)
    """Rows of the embedding; 0: `vocab_size`."""
    dropout: Share = Field(default=0.0, ge=0.0, lt=1.0)
    """Activations set to zero in training, after the embedding and in each block."""

    # None stands for "the family's default" and is gone after validation.
    tie_embeddings: bool = None  # type: ignore[assignment]
    """Whether the head has the embedding's weights."""
    qkv_bias: bool = None  # type: ignore[assignment]
    """Whether the projections to queries, keys and values have biases."""
    attn_out_bias: bool = None  # type: ignore[assignment]
    """Whether attention's output projection has a bias."""
    mlp_bias: bool = None  # type: ignore[assignment]
    """Whether the MLP's projections have biases."""
    norm_bias: bool = None  # type: ignore[assignment]
    """Whether norms have biases; RMSNorm has none."""
    head_bias: bool = False
    """Whether the head has a bias; it needs `tie_embeddings = false`."""
    norm: Literal["layernorm", "rmsnorm"] = None  # type: ignore[assignment]
    """What normalises the width."""
    norm_weight: bool = True
    """Whether norms have a learned scale."""
    norm_eps: float = Field(default=None, gt=0.0)  # type: ignore[assignment]
    """What norms add to the variance."""
    norm_placement: Literal["pre", "post"] = "pre"
    """Whether a norm stands before each part of a block, or after its residual sum."""
    positions: Literal["learned", "sinusoidal", "rope"] = None  # type: ignore[assignment]
    """How a token's place is told: a learned table, fixed waves, or rotated queries and keys."""
    rope_theta: float = Field(default=10_000.0, gt=0.0)
    """The base of the rotation's frequencies; with `rope` only."""
    activation: Literal["gelu", "gelu_tanh", "relu", "relu2", "swiglu"] = None  # type: ignore[assignment]
    """The MLP's non-linearity; `swiglu` adds a gate."""
    qk_norm: bool = None  # type: ignore[assignment]
    """Whether queries and keys are normalised in each head."""
    logit_softcap: float = Field(default=0.0, ge=0.0)
    """The bound c of logits, by c tanh(logit / c); 0: off."""
    extra_attn_proj: bool = False
    """A second output projection after attention's, as one of the five systems once had."""
    init: Literal["gpt2", "normal", "zero_out", "vaswani"] = None  # type: ignore[assignment]
    """How weights begin: `zero_out` sets each block's output projections to zero."""
    init_std: float = Field(default=0.02, gt=0.0)
    """Standard deviation of the weights at the start."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, values: Any) -> Any:
        """Replaces what was left out by the family's defaults and by what the shape implies."""
        if not isinstance(values, dict):
            return values
        filled = dict(values)
        for key, value in _FAMILY_DEFAULTS.get(filled.get("family", "modern"), {}).items():
            if filled.get(key) is None:
                filled[key] = value
        if not all(isinstance(filled.get(k), int) for k in ("n_head", "d_model", "vocab_size")):
            return filled  # the field checks will say what is wrong
        n_head, d_model = filled["n_head"], filled["d_model"]
        if not filled.get("head_dim"):
            _check_divides(n_head, d_model)
            filled["head_dim"] = d_model // n_head if n_head else 0
        filled["n_kv_head"] = filled.get("n_kv_head") or n_head
        filled["padded_vocab"] = filled.get("padded_vocab") or filled["vocab_size"]
        if not filled.get("d_ff"):
            swiglu = filled.get("activation") == "swiglu"
            # 8/3 keeps the parameters of a gated MLP equal to 4x without a gate (Shazeer 2020).
            filled["d_ff"] = -(-8 * d_model // 3 // 8) * 8 if swiglu else 4 * d_model
        return filled

    @model_validator(mode="after")
    def _check(self) -> ModelConfig:
        if self.n_head % self.n_kv_head:
            counts = [n for n in range(1, self.n_head + 1) if self.n_head % n == 0]
            raise UserError(
                f"model.n_kv_head = {self.n_kv_head} does not divide model.n_head = {self.n_head}.",
                fix=f"Valid counts: {_listed(counts)}.",
            )
        if self.padded_vocab < self.vocab_size:
            raise UserError(
                f"model.padded_vocab = {self.padded_vocab} is smaller than "
                f"model.vocab_size = {self.vocab_size}.",
                fix="Leave padded_vocab out, or make it at least vocab_size.",
            )
        if self.positions == "rope" and self.head_dim % 2:
            raise UserError(
                f"Rotary positions need an even head size; d_model / n_head is {self.head_dim}.",
                fix="Choose another model.n_head, or model.positions = learned.",
            )
        if self.positions == "sinusoidal" and self.d_model % 2:
            raise UserError(f"Sinusoidal positions need an even model.d_model, not {self.d_model}.")
        if self.norm == "rmsnorm" and self.norm_bias:
            raise UserError("model.norm_bias = true has no effect with RMSNorm, which has no bias.")
        if self.tie_embeddings and self.head_bias:
            raise UserError(
                "model.head_bias = true needs a head of its own.",
                fix="Set model.tie_embeddings=false.",
            )
        return self

    @property
    def gated(self) -> bool:
        """Whether the MLP has a gate beside its up-projection."""
        return self.activation == "swiglu"

    @property
    def n_padding(self) -> int:
        """Rows of the embedding that stand for no token."""
        return self.padded_vocab - self.vocab_size


def _check_divides(n_head: int, d_model: int) -> None:
    if n_head and d_model % n_head:
        counts = [n for n in range(1, min(d_model, 128) + 1) if d_model % n == 0]
        raise UserError(
            f"model.n_head = {n_head} does not divide model.d_model = {d_model}.",
            fix=f"Valid head counts for this width: {_listed(counts)}.",
            regret="R18",
        )


def _listed(numbers: list[int]) -> str:
    return ", ".join(str(n) for n in numbers)
