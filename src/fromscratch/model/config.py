"""The architecture of a model, complete and checked.

A `ModelConfig` says everything that shapes the network; nothing about a model is guessed from its
weights. `family` chooses the defaults of the options, and any option can then be set by itself.
This file does not import torch, so that `plan` answers at once.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fromscratch.foundation.errors import UserError

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


class ModelConfig(BaseModel):
    """Shape and options of one decoder-only transformer.

    Every option that is left out takes its family's default: `gpt2` is GPT-2 (Radford et al. 2019),
    `modern` is the dense architecture of Qwen3 (2025). After validation no field is None.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    family: Family = "modern"
    n_layer: int = Field(ge=1)
    n_head: int = Field(ge=1)
    d_model: int = Field(ge=1)
    context: int = Field(ge=1, description="longest sequence, in tokens")
    vocab_size: int = Field(ge=2, description="real ids; everything at or above is padding")

    n_kv_head: int = Field(default=0, ge=0, description="0: as many as n_head")
    head_dim: int = Field(default=0, ge=0, description="0: d_model / n_head")
    d_ff: int = Field(default=0, ge=0, description="0: 4 d_model, or 8/3 d_model with swiglu")
    padded_vocab: int = Field(default=0, ge=0, description="rows of the embedding; 0: vocab_size")
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)

    # None stands for "the family's default" and is gone after validation.
    tie_embeddings: bool = None  # type: ignore[assignment]
    qkv_bias: bool = None  # type: ignore[assignment]
    attn_out_bias: bool = None  # type: ignore[assignment]
    mlp_bias: bool = None  # type: ignore[assignment]
    norm_bias: bool = None  # type: ignore[assignment]
    head_bias: bool = False
    norm: Literal["layernorm", "rmsnorm"] = None  # type: ignore[assignment]
    norm_weight: bool = True
    norm_eps: float = Field(default=None, gt=0.0)  # type: ignore[assignment]
    norm_placement: Literal["pre", "post"] = "pre"
    positions: Literal["learned", "sinusoidal", "rope"] = None  # type: ignore[assignment]
    rope_theta: float = Field(default=10_000.0, gt=0.0)
    activation: Literal["gelu", "gelu_tanh", "relu", "relu2", "swiglu"] = None  # type: ignore[assignment]
    qk_norm: bool = None  # type: ignore[assignment]
    logit_softcap: float = Field(default=0.0, ge=0.0, description="0: off")
    extra_attn_proj: bool = Field(
        default=False, description="a second output projection after attention's"
    )
    init: Literal["gpt2", "normal", "zero_out", "vaswani"] = None  # type: ignore[assignment]
    init_std: float = Field(default=0.02, gt=0.0)

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
