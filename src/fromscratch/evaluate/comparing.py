"""Which numbers of several evaluations may be held against each other, in words (R44)."""

from __future__ import annotations

from collections.abc import Sequence

from fromscratch.evaluate.records import EvalRecord

_PROTOCOL = ("context", "stride", "separate", "limit_documents")


def why_nats_do_not_compare(records: Sequence[EvalRecord]) -> list[str]:
    """What stands between the losses of several records, a sentence each; none where they compare.

    Args:
        records: Of kind `loss`.
    """
    said = []
    if len({record.model.tokenizer for record in records}) > 1:
        said.append(
            "The models have different tokenizers: a token of one is not a token of the other, so "
            "nats per token and perplexity do not compare. Bits per byte do (R44)."
        )
    if len({record.data.sha256 for record in records}) > 1:
        said.append(
            "The texts differ: nats per token and perplexity of one text say nothing about "
            "another, whose tokens are longer or shorter. Bits per byte are in one unit, but one "
            "text can be harder than another: compare models on the same text (R44)."
        )
    return said


def different_settings(records: Sequence[EvalRecord]) -> list[str]:
    """The names of the settings in which records differ that change a loss."""
    return [
        name
        for name in _PROTOCOL
        if len({repr(record.settings.get(name)) for record in records}) > 1
    ]
