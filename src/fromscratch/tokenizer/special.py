"""Further special tokens for a tokenizer: the roles of a conversation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from fromscratch.tokenizer.tokenizer import Tokenizer


def with_special_tokens(tokenizer: Tokenizer, names: Sequence[str]) -> Tokenizer:
    """The tokenizer with further special tokens.

    Args:
        tokenizer: Stays as it is.
        names: Those that it has already keep their ids; the others take the next ones, in order.

    Raises:
        UserError: A name is in its ordinary vocabulary, so that text could be the token.
    """
    spec: dict[str, Any] = json.loads(tokenizer.content)
    spec["added_tokens"] = [dict(entry) for entry in spec["added_tokens"]]
    by_name = {entry["content"]: entry for entry in spec["added_tokens"]}
    next_id = tokenizer.vocab_size
    for name in names:
        if name in by_name:
            by_name[name]["special"] = True  # in some files a role is an added word, not special
            continue
        entry = {
            "id": next_id,
            "content": name,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        spec["added_tokens"].append(entry)
        by_name[name] = entry
        next_id += 1
    return Tokenizer(json.dumps(spec, ensure_ascii=False), name=tokenizer.name)
