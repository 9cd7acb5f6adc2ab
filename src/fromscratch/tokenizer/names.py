"""How recipes and command lines name a tokenizer; without the libraries that run one."""

from __future__ import annotations

from fromscratch.foundation.errors import UserError, did_you_mean


def needs_training(spec: str) -> bool:
    """Whether a tokenizer named `spec` is made from text (`bpe:N`, `bpe:N:PATTERN`, `chars`)."""
    return spec == "chars" or spec.startswith("bpe:")


def vocab_size_of(spec: str) -> int | None:
    """The vocabulary size that a tokenizer's name implies; None where only the text can tell."""
    if spec.startswith("bpe:"):
        return bpe_size(spec)
    return {"gpt2": 50257, "bytes": 257}.get(spec)


# How text is cut before merging; merges never cross a cut. `gpt2` is Radford et al. (2019).
# `modern` follows GPT-4's published pattern: line ends stay with the punctuation before them, and
# digits come in groups of at most two, which suits small vocabularies. `line` cuts where a line
# begins, so that merges may span words: the most text a token, for small vocabularies on text that
# repeats phrases, as code does.
PATTERNS = {
    "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "modern": (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,2}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    ),
    "line": r"[^\n]*\n+[ \t]*|[^\n]+",
}


def bpe_pattern(spec: str) -> str:
    """The PATTERN of `bpe:N:PATTERN`, `modern` where none is said.

    Raises:
        UserError: There is no such pattern.
    """
    pattern = spec.split(":", maxsplit=2)[2] if spec.count(":") > 1 else "modern"
    check_pattern(pattern)
    return pattern


def check_pattern(pattern: str) -> None:
    """Raises a UserError where there is no splitting pattern of that name."""
    if pattern not in PATTERNS:
        hint = did_you_mean(pattern, PATTERNS)
        raise UserError(f'"{pattern}" is not a splitting pattern ({", ".join(PATTERNS)}).{hint}')


def bpe_size(spec: str) -> int:
    """The N of `bpe:N` or `bpe:N:PATTERN`.

    Raises:
        UserError: N is not a usable vocabulary size.
    """
    try:
        size = int(spec.split(":")[1])
    except ValueError:
        size = 0
    if not 257 <= size <= 1_000_000:
        raise UserError(
            f'"{spec}": a byte-level BPE has 256 bytes and an end-of-text token, so at least 257 '
            "ids (and here at most a million).",
            fix="Write for example bpe:4096.",
        )
    return size
