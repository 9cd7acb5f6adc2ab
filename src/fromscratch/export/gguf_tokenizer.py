"""A tokenizer as GGUF spells it: tokens with their kinds, merges, and the name of the splitting.

In: a tokenizer and what its `tokenizer.json` says. Out: `GGUFTokenizer`, or a `UserError` where
readers of GGUF would encode text otherwise. A GGUF file does not hold the pattern by which text is
split before merging; it holds a name, and readers know the pattern of that name. So only patterns
that have a name there can be exported (llama.cpp's src/llama-vocab.cpp lists them).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fromscratch.foundation.errors import UserError
from fromscratch.tokenizer.names import PATTERNS
from fromscratch.tokenizer.tokenizer import Tokenizer

# GGUF's kinds of tokens.
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5

_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_NAMES = {PATTERNS["gpt2"]: "gpt-2", _QWEN2: "qwen2"}


@dataclass(frozen=True)
class GGUFTokenizer:
    """What a GGUF file says of a byte-level BPE.

    Attributes:
        pre: The name of the splitting: `gpt-2` or `qwen2`.
        tokens: By id.
        kinds: Of each token.
        merges: In order, the two parts with a blank between.
        eot_id: What ends a document.
    """

    pre: str
    tokens: list[str]
    kinds: list[int]
    merges: list[str]
    eot_id: int


def gguf_tokenizer(tokenizer: Tokenizer) -> GGUFTokenizer:
    """The tokenizer in GGUF's terms.

    Raises:
        UserError: Readers of GGUF cannot encode as it does.
    """
    spec: dict[str, Any] = json.loads(tokenizer.content)
    model = spec["model"]
    if spec["decoder"]["type"] != "ByteLevel":
        raise _refusal("a vocabulary of whole characters; GGUF's is of bytes and their merges")
    merges = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    if not merges:  # readers want the list of merges, and the writer cannot write an empty one
        raise _refusal("bytes alone and no merges, which GGUF cannot hold")
    pre = _name_of_splitting(spec)
    tokens: dict[int, str] = {i: token for token, i in model["vocab"].items()}
    kinds = dict.fromkeys(tokens, NORMAL)
    for added in spec["added_tokens"]:
        tokens[added["id"]] = added["content"]
        kinds[added["id"]] = CONTROL if added["special"] else USER_DEFINED
    ids = range(tokenizer.vocab_size)
    return GGUFTokenizer(
        pre=pre,
        tokens=[tokens.get(i, f"[PAD{i}]") for i in ids],
        kinds=[kinds.get(i, UNUSED) for i in ids],
        merges=merges,
        eot_id=tokenizer.eot_id,
    )


def _name_of_splitting(spec: Mapping[str, Any]) -> str:
    normalizer = spec.get("normalizer")
    if normalizer is not None and normalizer.get("type") != "NFC":
        raise _refusal(f"the normaliser {normalizer.get('type')}, which GGUF does not hold")
    splitting = spec.get("pre_tokenizer") or {}
    steps = splitting.get("pretokenizers", [splitting])
    if any(step.get("add_prefix_space") for step in steps):
        raise _refusal("a blank put before each text, which GGUF's byte-level readers do not do")
    pattern = PATTERNS["gpt2"] if steps[-1].get("use_regex", True) else None
    if len(steps) == 2:
        pattern = steps[0].get("pattern", {}).get("Regex")
    kinds = [step.get("type") for step in steps]
    if kinds not in (["ByteLevel"], ["Split", "ByteLevel"]) or pattern not in _NAMES:
        raise _refusal("a way of splitting text before merging that has no name in GGUF")
    return _NAMES[pattern]


def _refusal(what: str) -> UserError:
    return UserError(
        f"The model's tokenizer has {what}: programs that read GGUF would give other ids.",
        fix="Export it --to hf; or train with the tokenizer gpt2 or bpe:N:gpt2, which GGUF has.",
    )
