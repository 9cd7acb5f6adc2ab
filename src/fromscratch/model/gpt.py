"""The network: embeddings, a stack of blocks, a head.

Shapes: B batch, T positions, S positions seen (cached and new), C width, V real vocabulary,
P padded vocabulary, nh heads, hd head size.

Always true: ids in the vocabulary's padding have logit -inf, so that they take no probability and
are never sampled (R21); nothing but parameters is in the state dict (R20).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fromscratch.foundation.errors import UserError
from fromscratch.model import few_rows
from fromscratch.model.attention import Attention, AttentionInputs
from fromscratch.model.config import ModelConfig
from fromscratch.model.cross_entropy import Head
from fromscratch.model.init import initialise
from fromscratch.model.int8 import Int8Linear
from fromscratch.model.kv_cache import KVCache, KVRows
from fromscratch.model.mlp import MLP
from fromscratch.model.norm import make_norm
from fromscratch.model.positions import rope_table, sinusoidal_table


class Block(nn.Module):
    """Attention and MLP, each with a residual path; norms before them (pre) or after (post)."""

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.pre = config.norm_placement == "pre"
        self.attn_norm = make_norm(config, config.d_model)
        self.attn = Attention(config, layer)
        self.mlp_norm = make_norm(config, config.d_model)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, inputs: AttentionInputs) -> Tensor:
        """Maps (B, T, C) to (B, T, C)."""
        if self.pre:
            x = x + self.attn(self.attn_norm(x), inputs)
            x = x + self.mlp(self.mlp_norm(x))
        else:
            x = self.attn_norm(x + self.attn(x, inputs))
            x = self.mlp_norm(x + self.mlp(x))
        return x


BlockCall = Callable[[Block, Tensor, AttentionInputs], Tensor]
"""How a block is run: as it is, compiled, or with its activations computed again in backward."""


def call_block(block: Block, x: Tensor, inputs: AttentionInputs) -> Tensor:
    """Runs a block as it is."""
    out: Tensor = block(x, inputs)
    return out


class GPT(nn.Module):
    """A decoder-only transformer of either family.

    `block_call` is how blocks are run in training mode; evaluation and generation run them as they
    are (R41), and it is no part of the model's state.

    Args:
        config: Shape and options.
        seed: Seed of the initial weights.
    """

    activation_checkpointing: bool = False
    """Whether training keeps only each block's input and computes the rest again in the backward
    pass: the same gradients for a third more time and much less memory. No part of the model."""

    packed_head: few_rows.Packed | None = None
    """The head's matrix as `few_rows.pack` made it, for generating."""

    position_table: Tensor
    """Rotary (2, context, hd) or sinusoidal (context, C) numbers; empty with learned positions."""

    def __init__(self, config: ModelConfig, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        self.block_call: BlockCall = call_block
        self.embed = _embedding(config.padded_vocab, config.d_model)
        self.positions = (
            _embedding(config.context, config.d_model) if config.positions == "learned" else None
        )
        self.embed_dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config, i) for i in range(config.n_layer))
        self.final_norm = (
            make_norm(config, config.d_model) if config.norm_placement == "pre" else nn.Identity()
        )
        self.head = (
            None
            if config.tie_embeddings
            else nn.Linear(config.d_model, config.padded_vocab, bias=config.head_bias)
        )
        # Of a quantised model, which is for use only; its other linear layers are such, too.
        self.int8_head: Int8Linear | None = None
        self.build_tables(self.embed.weight.device)
        if not self.embed.weight.is_meta:
            initialise(self, config, torch.Generator().manual_seed(seed))

    def build_tables(self, device: torch.device) -> None:
        """Makes the tables of fixed numbers: they follow the model, but are never saved (R20)."""
        config = self.config
        # Arithmetic on the meta device imports torch's compiler, as in _embedding.
        where = torch.device("cpu") if device.type == "meta" else device
        table = torch.empty(0, device=where)
        if config.positions == "rope":
            table = rope_table(config.context, config.head_dim, config.rope_theta, where)
        elif config.positions == "sinusoidal":
            table = sinusoidal_table(config.context, config.d_model, where)
        self.register_buffer("position_table", table.to(device), persistent=False)

    def forward(
        self,
        ids: Tensor,
        *,
        segments: Tensor | None = None,
        cache: KVCache | KVRows | None = None,
    ) -> Tensor:
        """Logits of the next token at every position.

        Args:
            ids: (B, T) token ids.
            segments: (B, T) number of the document that each position belongs to; given, a position
                attends within its own document only and positions count from its start.
            cache: Keys and values of the tokens before `ids`; extended by this call.

        Returns:
            (B, T, P) logits; those of padding ids are -inf.

        Raises:
            UserError: More tokens than the context holds.
        """
        return self.logits(self.hidden(ids, segments=segments, cache=cache))

    def hidden(
        self,
        ids: Tensor,
        *,
        segments: Tensor | None = None,
        cache: KVCache | KVRows | None = None,
        layout: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """The last block's output after the final norm, (B, T, C); arguments as for `forward`.

        Args:
            ids: (B, T).
            segments: (B, T).
            cache: Of the tokens before.
            layout: Instead of both, where texts that begin alike share a row: the position of each
                token in its text, (B, T), below the context; who may look at whom, (B, 1, T, T).
        """
        length = ids.shape[1]
        longest = length if cache is None else cache.length_with(length)
        if layout is None and longest > self.config.context:
            raise UserError(
                f"A sequence of {longest} tokens is longer than the model's context of "
                f"{self.config.context}.",
                fix="Shorten it, or train with a larger model.context.",
            )
        where: slice | Tensor = slice(0, length) if cache is None else cache.positions(length)
        if segments is not None:
            where = _positions_in(segments)
        if layout is not None:
            assert segments is None, "a layout says it all"
            assert cache is None, "a layout says it all"
            where = layout[0]
        x = self.embed(ids)  # (B, T, C)
        if self.positions is not None:
            table: Tensor = self.positions.weight
            x = x + table[where]
        elif self.config.positions == "sinusoidal":
            x = x + self.position_table[where].to(x.dtype)
        x = self.embed_dropout(x)
        inputs = AttentionInputs(
            rope=self._rope(where),
            mask=_mask(segments, cache, length, ids.device) if layout is None else layout[1],
            cache=cache,
        )
        call = self.block_call if self.training else call_block
        recompute = self.activation_checkpointing and self.training and torch.is_grad_enabled()
        for module in self.blocks:
            block = cast(Block, module)
            # Computed again, a block drops and casts what it did the first time.
            x = (
                cast(Tensor, checkpoint(call, block, x, inputs, use_reentrant=False))
                if recompute
                else call(block, x, inputs)
            )
        if cache is not None:
            cache.advance(length)
        out: Tensor = self.final_norm(x)
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        """Maps hidden states (..., C) to logits (..., P) with the padding at -inf."""
        return self.output.logits(hidden)

    @property
    def output(self) -> Head:
        """What turns hidden states into logits, and into losses without all logits at once."""
        linear = self.embed if self.head is None else self.head
        return Head(
            weight=linear.weight,
            bias=None if self.head is None else self.head.bias,
            vocab_size=self.config.vocab_size,
            softcap=self.config.logit_softcap,
            int8=self.int8_head,
            packed=self.packed_head,
        )

    def _rope(self, where: slice | Tensor) -> tuple[Tensor, Tensor] | None:
        if self.config.positions != "rope":
            return None
        if isinstance(where, slice) or where.dim() == 1:
            cos, sin = self.position_table[:, where]  # each (T, hd)
        else:
            cos, sin = self.position_table[:, where].unsqueeze(2)  # each (B, 1, T, hd)
        dtype = self.embed.weight.dtype
        return cos.to(dtype), sin.to(dtype)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embed.weight.device


def _embedding(n: int, width: int) -> nn.Embedding:
    """Not drawn by torch: `initialise` does that, and of a model that is loaded nobody.

    On the meta device torch's own draw imports its compiler, which takes longer than loading.
    """
    table: nn.Embedding = nn.Embedding.from_pretrained(torch.empty(n, width), freeze=False)
    return table


def _positions_in(segments: Tensor) -> Tensor:
    """Each position's distance from the start of its document, (B, T)."""
    index = torch.arange(segments.shape[1], device=segments.device).expand_as(segments)
    starts = torch.ones_like(segments, dtype=torch.bool)
    starts[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return index - torch.where(starts, index, 0).cummax(dim=1).values


def _mask(
    segments: Tensor | None, cache: KVCache | KVRows | None, length: int, device: torch.device
) -> Tensor | None:
    """Who may look at whom, (B, 1, T, S) or (T, S); None where plain causality says it all.

    Rows of a `KVRows` have masks of their own.
    """
    past = cache.length if isinstance(cache, KVCache) else 0
    if segments is None and (past == 0 or length == 1):
        return None
    assert segments is None or past == 0, "packed documents are not generated from a cache"
    rows = torch.arange(past, past + length, device=device)[:, None]
    causal = rows >= torch.arange(past + length, device=device)  # (T, S)
    if segments is None:
        return causal
    same = segments[:, :, None] == segments[:, None, :]  # (B, T, T)
    return (same & causal)[:, None]
