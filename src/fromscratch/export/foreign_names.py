"""Which of a foreign checkpoint's tensors is what: by name, as GPT-2's relatives call them.

In: tensors under their author's names. Out: `ForeignModel`: the same by what they are, with linear
layers as (out, in). Known are the names of OpenAI's GPT-2 and of what descends from it (nanoGPT,
build-nanogpt, fgpt), of the book "Build a Large Language Model (From Scratch)" and of rangeflow;
and mixtures of them, since authors rename freely. A tensor that is nothing of the kind is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from fromscratch.foundation.errors import UserError

Style = Literal["gpt2", "nanogpt", "book", "rangeflow", "other"]

_TOP = {
    "embed": r"(wte|tok_emb|tok_embed|token_emb|token_embed|token_embedding|token_embedding_table)",
    "positions": r"(wpe|pos_emb|pos_embed|position_emb|position_embedding|pos_embedding"
    r"|position_embedding_table)",
    "final_norm": r"(ln_f|ln_final|final_norm|norm_f|final_ln)",
    "head": r"(lm_head|head|out_head)",
}
_ATTENTION = r"(attn|att|attention|self_attn|sa)\."
_MLP = r"(mlp|ff|ffn|ffwd|feed_forward)\."
_IN_BLOCK = {
    "attn_norm": r"(ln_1|ln1|norm1|attn_norm)",
    "qkv": _ATTENTION + r"(c_attn|qkv_proj|qkv)",
    "q": _ATTENTION + r"(q_proj|w_query|query|wq|w_q|q)",
    "k": _ATTENTION + r"(k_proj|w_key|key|wk|w_k|k)",
    "v": _ATTENTION + r"(v_proj|w_value|value|wv|w_v|v)",
    "out": _ATTENTION + r"(c_proj|out_proj|o_proj|proj|wo|w_o)",
    "mlp_norm": r"(ln_2|ln2|norm2|mlp_norm)",
    "up": _MLP + r"(c_fc|linear1|layers\.0|net\.0|fc1|fc_in|lin1)",
    "down": _MLP + r"(c_proj|linear2|layers\.2|net\.2|fc2|fc_out|lin2)",
}
_BLOCK = re.compile(r"(?:transformer\.)?(?:h|blocks|layers|trf_blocks)\.(\d+)\.(.+)")
_ENDS = {"weight": "weight", "scale": "weight", "gamma": "weight"} | {
    "bias": "bias",
    "shift": "bias",
    "beta": "bias",
}
# Causal masks that were saved with the weights (R20).
_MASK = re.compile(r".*(attn|att|attention|sa|heads\.\d+)\.(bias|masked_bias|mask|tril)")


@dataclass(frozen=True)
class ForeignModel:
    """The tensors of a foreign model by what they are.

    Attributes:
        top: `embed.weight`, `positions.weight`, `final_norm.weight`, `head.weight`, ...
        blocks: Of each layer: `attn_norm.weight`, `qkv.weight` or `q.weight`, `k.weight`,
            `v.weight`; `out`, `mlp_norm`, `up`, `down`; matrices as (out, in).
        style: Whose names they are.
    """

    top: dict[str, Tensor]
    blocks: list[dict[str, Tensor]]
    style: Style


def foreign_model(tensors: Mapping[str, Tensor]) -> ForeignModel:
    """Finds out what each tensor is.

    Raises:
        UserError: A tensor is unknown, or one that every GPT has is missing.
    """
    top: dict[str, Tensor] = {}
    blocks: dict[int, dict[str, Tensor]] = {}
    unknown = []
    for name, tensor in tensors.items():
        if tensor.ndim != 1 and _MASK.fullmatch(name):
            continue
        in_block = _BLOCK.fullmatch(name)
        place = top if in_block is None else blocks.setdefault(int(in_block[1]), {})
        rest = name.removeprefix("transformer.") if in_block is None else in_block[2]
        role = _role(rest, _TOP if in_block is None else _IN_BLOCK)
        if role is None or role in place:
            unknown.append(name)
        else:
            place[role] = tensor.float()
    if unknown:
        raise UserError(
            f"The checkpoint has {len(unknown)} tensors that no GPT of the known kinds has "
            f"({', '.join(sorted(unknown)[:4])}).",
            fix="Rename them as nanoGPT does, and save the state dict again.",
        )
    _check_whole(top, blocks)
    model = ForeignModel(top, [blocks[i] for i in range(len(blocks))], _style(tensors))
    if model.style == "gpt2":
        for block in model.blocks:
            for role in ("qkv", "out", "up", "down"):
                block[f"{role}.weight"] = block[f"{role}.weight"].t()
    return model


def _role(name: str, roles: Mapping[str, str]) -> str | None:
    stem, _, end = name.lower().rpartition(".")
    found = (role for role, pattern in roles.items() if re.fullmatch(pattern, stem))
    role = next(found, None)
    return f"{role}.{_ENDS[end]}" if role is not None and end in _ENDS else None


def _check_whole(top: Mapping[str, Tensor], blocks: Mapping[int, Mapping[str, Tensor]]) -> None:
    missing = [n for n in ("embed.weight", "positions.weight", "final_norm.weight") if n not in top]
    if sorted(blocks) != list(range(len(blocks))) or not blocks:
        missing.append("a layer")
    needed = ("attn_norm.weight", "out.weight", "mlp_norm.weight", "up.weight", "down.weight")
    for i, block in blocks.items():
        missing += [f"{name} of layer {i}" for name in needed if name not in block]
        if "qkv.weight" not in block:
            missing += [f"{n}.weight of layer {i}" for n in "qkv" if f"{n}.weight" not in block]
    if missing:
        raise UserError(
            f"The checkpoint lacks {missing[0]}: it is no whole GPT with learned positions.",
            fix="Import models of GPT-2's kind; Qwen3 folders need no import.",
        )


def _style(tensors: Mapping[str, Tensor]) -> Style:
    """Whose names these are; OpenAI's and transformers' matrices are (in, out)."""
    names = set(tensors)
    prefix = "transformer." if "transformer.wte.weight" in names else ""
    fused = tensors.get(f"{prefix}h.0.attn.c_attn.weight")
    if fused is not None:
        return "nanogpt" if fused.shape[0] > fused.shape[1] else "gpt2"
    if any(name.startswith("trf_blocks.") for name in names):
        return "book"
    return "rangeflow" if "ln_final.weight" in names else "other"
