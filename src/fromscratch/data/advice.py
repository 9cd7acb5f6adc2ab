"""What a look at prepared data says to do: a few sentences, the most costly mistake first."""

from __future__ import annotations

from collections.abc import Iterator

from fromscratch.data.audit import Audit

# Above this share of held-out documents with a copy in training, the validation loss flatters.
_NEAR_SHARE = 0.02
_FEW_HELD_OUT_DOCUMENTS = 10
_FEW_HELD_OUT_TOKENS = 10_000
# A context that holds more documents than this mixes texts that have nothing to do with each other.
_DOCUMENTS_A_WINDOW = 8
# Below this many tokens per id of the vocabulary, rare ids are too rare to be learned.
_TOKENS_AN_ID = 100
_UNUSED = 0.3


def advice(audit: Audit, *, most: int = 3) -> list[str]:
    """Sentences that each say what is wrong and what to do; empty where nothing stands out."""
    every = _advice(audit)
    return [sentence for sentence, _ in zip(every, range(most), strict=False)]


def _advice(audit: Audit) -> Iterator[str]:
    content, held_out = audit.content, audit.splits["val"]
    if not held_out.documents:
        yield (
            "Nothing is held out, so nobody can tell whether a model learns or memorises (R04): "
            "prepare again without --no-validation."
        )
    if content.exact_copies:
        yield (
            f"{content.exact_copies:,} held-out documents are in the training split word for word "
            "(R06): the validation loss would lie. Prepare the text again from its source: "
            "fromscratch prepare SOURCE --out DATA."
        )
    near = content.near
    if near is not None and near.compared:
        copies = near.near - content.exact_copies
        if copies > 0 and copies / near.compared >= _NEAR_SHARE:
            yield (
                f"{copies / near.compared:.0%} of the held-out documents have a near copy in the "
                "training split (R06), so the validation loss flatters: prepare again with "
                "--dedup near."
            )
    if content.special:
        documents = max(s.documents for s in content.special)
        yield (
            f"{content.special[0].text} stands in documents as text (at least {documents:,} of "
            "them). If these are markers of an export, a model would learn to write them out: "
            "remove them, or export the conversations as JSON and prepare that."
        )
    if held_out.documents > 0 and (
        held_out.documents < _FEW_HELD_OUT_DOCUMENTS or held_out.tokens < _FEW_HELD_OUT_TOKENS
    ):
        yield (
            f"Only {held_out.documents:,} documents of {held_out.tokens:,} tokens are held out, "
            "so the validation loss depends on which they are: prepare again with a larger "
            "--val-fraction."
        )
    if audit.lengths.median * _DOCUMENTS_A_WINDOW < audit.lengths.context:
        yield (
            f"Half of the documents have at most {audit.lengths.median:,} tokens, so a window of "
            f"{audit.lengths.context:,} holds many that have nothing to do with each other: train "
            "with data.document_mask = true, or with a shorter model.context."
        )
    vocabulary = audit.manifest.vocab_size
    unused = content.never / vocabulary if content.complete else 0.0
    if unused > _UNUSED and audit.total.tokens < _TOKENS_AN_ID * vocabulary:
        yield (
            f"{unused:.0%} of the vocabulary never occurs, and its embeddings would stay random: "
            "a tokenizer made from this text is smaller. Prepare again with --tokenizer bpe:4096 "
            "or so."
        )
