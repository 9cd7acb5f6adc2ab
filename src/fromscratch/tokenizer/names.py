"""How recipes and command lines name a tokenizer; without the libraries that run one."""

from __future__ import annotations

from fromscratch.foundation.errors import UserError


def needs_training(spec: str) -> bool:
    """Whether a tokenizer named `spec` is made from text (`bpe:N`, `chars`)."""
    return spec == "chars" or spec.startswith("bpe:")


def vocab_size_of(spec: str) -> int | None:
    """The vocabulary size that a tokenizer's name implies; None where only the text can tell."""
    if spec.startswith("bpe:"):
        return bpe_size(spec)
    return {"gpt2": 50257, "bytes": 257}.get(spec)


def bpe_size(spec: str) -> int:
    """The N of `bpe:N`.

    Raises:
        UserError: N is not a usable vocabulary size.
    """
    try:
        size = int(spec.removeprefix("bpe:"))
    except ValueError:
        size = 0
    if not 257 <= size <= 1_000_000:
        raise UserError(
            f'"{spec}": a byte-level BPE has 256 bytes and an end-of-text token, so at least 257 '
            "ids (and here at most a million).",
            fix="Write for example bpe:4096.",
        )
    return size
