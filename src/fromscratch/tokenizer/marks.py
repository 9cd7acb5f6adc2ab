"""Text that spells the name of a special token, in a folder that transformers reads.

In our own encoding no text is a special token. transformers encodes a rendered conversation as one
string, in which a user's `<|user|>` would be the token. So its chat template parts such a name with
a character that no text has (U+FDD0, a noncharacter: Unicode keeps it for uses like this), and the
tokenizer.json that is written beside it takes that character out again, after special tokens were
looked for and before anything else. What the model reads is what the user wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MARK = "\ufdd0"
_TAKE_OUT = {"type": "Replace", "pattern": {"String": MARK}, "content": ""}


def parted(name: str) -> str:
    """The name of a special token, parted so that it is none."""
    return name[:1] + MARK + name[1:]


def taking_out_marks(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A tokenizer.json for a folder with a chat template: what parts names is taken out of text."""
    normalizer = spec.get("normalizer")
    both = {"type": "Sequence", "normalizers": [_TAKE_OUT, normalizer]} if normalizer else _TAKE_OUT
    return {**spec, "normalizer": both}


def without_taking_out_marks(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `taking_out_marks`; another file's content as it is."""
    normalizer = spec.get("normalizer")
    if normalizer == _TAKE_OUT:
        return {**spec, "normalizer": None}
    if (
        isinstance(normalizer, dict)
        and normalizer.get("type") == "Sequence"
        and normalizer.get("normalizers", [None])[0] == _TAKE_OUT
    ):
        return {**spec, "normalizer": normalizer["normalizers"][1]}
    return dict(spec)
