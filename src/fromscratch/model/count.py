"""Parameter counts from the configuration alone, without torch.

`parameter_shapes` lists every parameter of the network with the name and shape that the built
model has (a test compares the two for every recipe), so a count printed anywhere comes from here or
from the model itself, never from a README (R19).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from fromscratch.model.config import ModelConfig


@dataclass(frozen=True)
class ParameterShape:
    """One parameter tensor.

    Attributes:
        name: Its name in the network's state dict.
        shape: Its shape.
        part: `embedding`, `positions`, `attention`, `mlp`, `norm` or `head`.
    """

    name: str
    shape: tuple[int, ...]
    part: str

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def decayed(self) -> bool:
        """Weight decay applies to matrices and embeddings, not to biases and norms."""
        return len(self.shape) >= 2


def parameter_shapes(config: ModelConfig) -> list[ParameterShape]:
    """Every parameter of the model, in the order of its state dict; a tied head appears once."""
    return list(_parameters(config))


def _parameters(c: ModelConfig) -> Iterator[ParameterShape]:
    width, heads_width, kv_width = c.d_model, c.n_head * c.head_dim, c.n_kv_head * c.head_dim
    yield ParameterShape("embed.weight", (c.padded_vocab, width), "embedding")
    if c.positions == "learned":
        yield ParameterShape("positions.weight", (c.context, width), "positions")
    for i in range(c.n_layer):
        block = f"blocks.{i}"
        yield from _norm(c, f"{block}.attn_norm", width)
        yield from _linear(
            f"{block}.attn.qkv", width, heads_width + 2 * kv_width, c.qkv_bias, "attention"
        )
        if c.qk_norm:
            for name in ("q_norm", "k_norm"):
                if c.norm_weight:
                    yield ParameterShape(f"{block}.attn.{name}.weight", (c.head_dim,), "norm")
        yield from _linear(f"{block}.attn.out", heads_width, width, c.attn_out_bias, "attention")
        if c.extra_attn_proj:
            yield from _linear(f"{block}.attn.extra", width, width, c.attn_out_bias, "attention")
        yield from _norm(c, f"{block}.mlp_norm", width)
        up_width = 2 * c.d_ff if c.gated else c.d_ff
        yield from _linear(f"{block}.mlp.up", width, up_width, c.mlp_bias, "mlp")
        yield from _linear(f"{block}.mlp.down", c.d_ff, width, c.mlp_bias, "mlp")
    if c.norm_placement == "pre":
        yield from _norm(c, "final_norm", width)
    if not c.tie_embeddings:
        yield from _linear("head", width, c.padded_vocab, c.head_bias, "head")


def _linear(name: str, n_in: int, n_out: int, bias: bool, part: str) -> Iterator[ParameterShape]:
    yield ParameterShape(f"{name}.weight", (n_out, n_in), part)
    if bias:
        yield ParameterShape(f"{name}.bias", (n_out,), part)


def _norm(c: ModelConfig, name: str, width: int) -> Iterator[ParameterShape]:
    if c.norm_weight:
        yield ParameterShape(f"{name}.weight", (width,), "norm")
    if c.norm_bias:
        yield ParameterShape(f"{name}.bias", (width,), "norm")


@dataclass(frozen=True)
class ParameterCounts:
    """How many parameters, by what matters to the optimiser and to comparisons.

    Attributes:
        total: All trainable numbers, the embedding's padding rows included; a tied head once.
        decayed: Those under weight decay, and the number of tensors they are in.
        not_decayed: The rest, likewise.
        non_embedding: Total without the token and position tables (an untied head is counted).
        by_part: Total of each part.
    """

    total: int
    decayed: int
    not_decayed: int
    decayed_tensors: int
    not_decayed_tensors: int
    non_embedding: int
    by_part: dict[str, int]


def count_parameters(config: ModelConfig) -> ParameterCounts:
    """Counts the parameters that `parameter_shapes` lists."""
    shapes = parameter_shapes(config)
    decayed = [s for s in shapes if s.decayed]
    plain = [s for s in shapes if not s.decayed]
    by_part: dict[str, int] = {}
    for shape in shapes:
        by_part[shape.part] = by_part.get(shape.part, 0) + shape.size
    tables = by_part["embedding"] + by_part.get("positions", 0)
    total = sum(s.size for s in shapes)
    return ParameterCounts(
        total=total,
        decayed=sum(s.size for s in decayed),
        not_decayed=sum(s.size for s in plain),
        decayed_tensors=len(decayed),
        not_decayed_tensors=len(plain),
        non_embedding=total - tables,
        by_part=by_part,
    )


def flops_per_token(config: ModelConfig) -> int:
    """Floating-point operations per trained token, forward and backward.

    6 per parameter that takes part in a matrix product (the head counts, tied or not; the embedding
    look-up does not) plus 12 * n_layer * n_head * head_dim * context for the attention scores and
    their product with the values, without a discount for causality (Chowdhery et al. 2022, PaLM,
    appendix B), so that MFU figures compare with published ones.
    """
    matmul = sum(
        s.size
        for s in parameter_shapes(config)
        if s.part in ("attention", "mlp", "head") and s.decayed
    )
    if config.tie_embeddings:
        matmul += config.padded_vocab * config.d_model
    return 6 * matmul + 12 * config.n_layer * config.n_head * config.head_dim * config.context
