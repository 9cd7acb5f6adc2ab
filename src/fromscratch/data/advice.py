"""What a look at prepared data says to do: the most costly mistake first."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from fromscratch.data.audit import Audit
from fromscratch.foundation.advice import Advice

# Above this share of held-out documents with a copy in training, the validation loss flatters.
_NEAR_SHARE = 0.02
_FEW_HELD_OUT_DOCUMENTS = 10
_FEW_HELD_OUT_TOKENS = 10_000
# A context that holds more documents than this mixes texts that have nothing to do with each other.
_DOCUMENTS_A_WINDOW = 8
# Below this many tokens per id of the vocabulary, rare ids are too rare to be learned.
_TOKENS_AN_ID = 100
_UNUSED = 0.3


def advice(audit: Audit, *, most: int = 3) -> list[Advice]:
    """What is wrong and what to do, the most costly first; empty where nothing stands out."""
    return list(islice(_advice(audit), most))


def _advice(audit: Audit) -> Iterator[Advice]:
    for look in (_held_out, _copies, _near_copies, _markers, _few_held_out, _short, _unused):
        yield from look(audit)


def _held_out(audit: Audit) -> Iterator[Advice]:
    if not audit.splits["val"].documents:
        yield Advice(
            "R04",
            "nothing is held out, so nobody can tell whether a model learns or memorises",
            "prepare again without --no-validation",
        )


def _copies(audit: Audit) -> Iterator[Advice]:
    if audit.content.exact_copies:
        yield Advice(
            "R06",
            f"{audit.content.exact_copies:,} held-out documents are in the training split word for "
            "word: the validation loss would lie",
            "prepare the text again from its source: fromscratch prepare SOURCE --out DATA",
        )


def _near_copies(audit: Audit) -> Iterator[Advice]:
    near = audit.content.near
    if near is None or not near.compared:
        return
    copies = near.near - audit.content.exact_copies
    if copies > 0 and copies / near.compared >= _NEAR_SHARE:
        yield Advice(
            "R06",
            f"{copies / near.compared:.0%} of the held-out documents have a near copy in the "
            "training split, so the validation loss flatters",
            "prepare again with --dedup near",
        )


def _markers(audit: Audit) -> Iterator[Advice]:
    special = audit.content.special
    if special:
        documents = max(s.documents for s in special)
        yield Advice(
            "R49",
            f"{special[0].text} stands in documents as text (at least {documents:,} of them): if "
            "these are markers of an export, a model would learn to write them out",
            "remove them, or export the conversations as JSON and finetune on that",
        )


def _few_held_out(audit: Audit) -> Iterator[Advice]:
    held_out = audit.splits["val"]
    if held_out.documents > 0 and (
        held_out.documents < _FEW_HELD_OUT_DOCUMENTS or held_out.tokens < _FEW_HELD_OUT_TOKENS
    ):
        yield Advice(
            "R04",
            f"only {held_out.documents:,} documents of {held_out.tokens:,} tokens are held out, so "
            "the validation loss depends on which they are",
            "prepare again with a larger --val-fraction",
        )


def _short(audit: Audit) -> Iterator[Advice]:
    lengths = audit.lengths
    if lengths.median * _DOCUMENTS_A_WINDOW < lengths.context:
        yield Advice(
            "R52",
            f"half of the documents have at most {lengths.median:,} tokens, so a window of "
            f"{lengths.context:,} holds many that have nothing to do with each other",
            "train with data.document_mask=true, or with a shorter model.context",
        )


def _unused(audit: Audit) -> Iterator[Advice]:
    vocabulary = audit.manifest.vocab_size
    unused = audit.content.never / vocabulary if audit.content.complete else 0.0
    if unused > _UNUSED and audit.total.tokens < _TOKENS_AN_ID * vocabulary:
        yield Advice(
            "R15",
            f"{unused:.0%} of the vocabulary never occurs, and its embeddings would stay random: a "
            "tokenizer made from this text is smaller",
            "prepare again with --tokenizer bpe:4096 or so",
        )
