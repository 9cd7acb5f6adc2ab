"""What tiktoken needs to give exactly the ids of a `tokenizer.json`, where that can be proven.

Hugging Face tokenizers merges the pair that stands first in a list of merges; tiktoken merges the
pair whose result has the lowest id, listed or not. The two agree on every text when

1. the text is cut in the same places: the file's splitting pattern is one of those below, each
   beside a spelling for tiktoken's matcher that cuts the same;
2. the list of merges is in the order of the ids that they make;
3. every token that tiktoken may make comes out when its own bytes are encoded from the list.

Why 3 is enough: while a text is merged, what happens between two cuts that have not been merged
across is what would happen to those bytes alone. So if two neighbours together spell a token, the
token's own bytes, alone, also come to these two neighbours; and since they go on to become the
token, this pair is in the list. No pair is ever in reach that only tiktoken would merge. A token of
which 3 is not true is never made by the library, and is left out for tiktoken.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer as FastTokenizer

from fromscratch.tokenizer.engines import Doubt
from fromscratch.tokenizer.names import PATTERNS

# A run of blanks before something else: all but its last. tiktoken's matcher keeps a note of each
# character of such a run, so a possessive spelling is chosen wherever it cuts the same.
_RUN = r"|\s++$|\s+(?!\S)|\s"
_LINES = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++" + _RUN


def _gpt4_like(digits: str, *, spelled_for_tiktoken: bool) -> str:
    """The family of GPT-4's pattern: line ends stay with the punctuation before them."""
    more = "+" if spelled_for_tiktoken else ""
    return (
        _CONTRACTIONS
        + rf"|[^\r\n\p{{L}}\p{{N}}]?{more}\p{{L}}+{more}|{digits}{more if '{' in digits else ''}"
        + rf"| ?[^\s\p{{L}}\p{{N}}]+{more}[\r\n]*{more}"
        + _LINES
    )


# From a pattern as tokenizer.json spells it to tiktoken's spelling. The two digit rules beside our
# own are those of Llama 3 (groups of three) and of Qwen 2 and 3 (one by one).
_SPELLING = {
    PATTERNS["gpt2"]: _GPT2,
    PATTERNS["line"]: r"[^\n]*+\n++[ \t]*+|[^\n]++",
    **{
        _gpt4_like(digits, spelled_for_tiktoken=False): _gpt4_like(
            digits, spelled_for_tiktoken=True
        )
        for digits in (r"\p{N}{1,2}", r"\p{N}{1,3}", r"\p{N}")
    },
}
_WHOLE = r"[\s\S]++"
_GPT2_MERGES = "04e3597d7996f292ca9b8b7285ca4d58a6ae171ac47d73fc7140ceb0c7a6bbc0"


@dataclass(frozen=True)
class TiktokenForm:
    """A `tokenizer.json` in tiktoken's terms.

    Attributes:
        pattern: Where text is cut before merging.
        ranks: The id of each token's bytes, special tokens left out.
        doubtful: Which texts must go to the library: it has a token that is matched as text,
            or characters that a normaliser may change.
    """

    pattern: str
    ranks: dict[bytes, int]
    doubtful: Doubt | None

    @property
    def is_cut(self) -> bool:
        """Whether text is cut at all before merging."""
        return self.pattern != _WHOLE


def tiktoken_form(spec: dict[str, Any], bytes_of_id: list[bytes]) -> TiktokenForm | str:
    """Translates a `tokenizer.json`.

    Args:
        spec: The file's content; its decoder is ByteLevel.
        bytes_of_id: (vocab_size,) what each id stands for; empty for special ids.

    Returns:
        The form, or in words why there is none.
    """
    model = spec["model"]
    pattern = _pattern_of(spec.get("pre_tokenizer"))
    if pattern is None:
        return "text is cut by a rule that is not known here"
    normalizer = (spec.get("normalizer") or {}).get("type")
    if normalizer not in (None, "NFC"):
        return f"text is changed by a normaliser ({normalizer}) first"
    if model.get("dropout") or model.get("byte_fallback"):
        return "its merges are not plain ones"
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        return "its tokens have prefixes or suffixes"
    ranks = _ranks_of(spec, bytes_of_id)
    if isinstance(ranks, str):
        return ranks
    as_text = [t["content"] for t in spec["added_tokens"] if not t["special"]]
    return TiktokenForm(pattern, ranks, _doubt(as_text, normalizes=normalizer is not None))


def _doubt(as_text: list[str], *, normalizes: bool) -> Doubt | None:
    if not as_text and not normalizes:
        return None

    def is_doubtful(text: str) -> bool:
        # ASCII is its own normal form.
        return (normalizes and not text.isascii()) or any(token in text for token in as_text)

    return lambda texts: [i for i, text in enumerate(texts) if is_doubtful(text)]


def _pattern_of(pre_tokenizer: dict[str, Any] | None) -> str | None:
    """Tiktoken's spelling of where text is cut, or None where it is not known."""
    steps = (pre_tokenizer or {}).get("pretokenizers", [pre_tokenizer])
    match steps:
        case [{"type": "ByteLevel", "add_prefix_space": False, "use_regex": use_regex}]:
            return _GPT2 if use_regex else _WHOLE
        case [
            {
                "type": "Split",
                "pattern": {"Regex": regex},
                "behavior": "Isolated",
                "invert": False,
            },
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
        ]:
            return _SPELLING.get(regex)
    return None


def _ranks_of(spec: dict[str, Any], bytes_of_id: list[bytes]) -> dict[bytes, int] | str:
    """Each token's id by its bytes, where merging by id is merging by the list; else why not."""
    model = spec["model"]
    vocab: dict[str, int] = model["vocab"]
    byte_ids = {token: i for i, token in enumerate(bytes_of_id) if len(token) == 1}
    if len(byte_ids) != 256:
        return "it lacks some bytes"
    made: dict[str, int] = {}
    last = -1
    for merge in model["merges"]:
        token = "".join(merge) if isinstance(merge, list) else merge.replace(" ", "")
        i = vocab[token]
        if not bytes_of_id[i]:
            return "its merges make special tokens"
        if i < last:
            return "its ids are not in the order of its merges"
        made[token] = last = i
    reached = _reached(spec, made)
    more_than_bytes = {i for i in vocab.values() if len(bytes_of_id[i]) > 1}
    if model.get("ignore_merges") and len(reached) < len(more_than_bytes):
        return "it has tokens that only whole words become"
    return byte_ids | {bytes_of_id[i]: i for i in reached}


def _reached(spec: dict[str, Any], made: dict[str, int]) -> list[int]:
    """The ids of the tokens that their own bytes, merged from the list, become."""
    merges = (m if isinstance(m, str) else " ".join(m) for m in spec["model"]["merges"])
    if hashlib.sha256("\n".join(merges).encode()).hexdigest() == _GPT2_MERGES:
        return list(made.values())  # all of GPT-2's, as a test has found out
    bare = {
        "version": spec.get("version", "1.0"),
        "added_tokens": [],
        "model": spec["model"] | {"ignore_merges": False},
    }
    library = FastTokenizer.from_str(json.dumps(bare))
    encoded = library.encode_batch_fast(list(made), add_special_tokens=False)
    return [i for i, e in zip(made.values(), encoded, strict=True) if e.ids == [i]]
