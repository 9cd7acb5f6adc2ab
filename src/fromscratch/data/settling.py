"""What is settled before the first document is written.

In: sources and what was asked of them. Out: what a document is, the share that is held out, the
tokenizer. Only beginnings are read for it, but for a tokenizer that is trained on the text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from fromscratch.data.documents import fitting_val_fraction, split_of
from fromscratch.data.options import PrepareOptions
from fromscratch.data.sources import Documents, Source, SourceReport
from fromscratch.data.watching import Advance, Watch
from fromscratch.foundation.errors import UserError
from fromscratch.tokenizer.build import make_tokenizer
from fromscratch.tokenizer.names import needs_training
from fromscratch.tokenizer.tokenizer import Tokenizer

_ENOUGH_DOCUMENTS = 100
_LARGE_CORPUS = 2_000


def default_val_fraction(
    sources: list[Source], *, least: float, seed: int = 0, tokenizer: str = "gpt2"
) -> float:
    """The share to hold out where nobody says one; see `fitting_val_fraction`.

    Args:
        sources: Of which the first two thousand documents are read.
        least: What a corpus of some thousand documents has held out.
        seed: Of the split.
        tokenizer: That made the ids of sources that are tokens already.

    Raises:
        UserError: The text is too short to be parted.
    """
    sources = [source.listed() for source in sources]
    if sum(source.count(_LARGE_CORPUS) for source in sources) >= _LARGE_CORPUS:
        return least
    made = _tokenizer_of_ids(sources, tokenizer)

    def texts() -> Iterator[str]:
        for source in as_documents(sources, ["auto"] * len(sources)):
            for document in source.documents(SourceReport(), made):
                if document.ids is None:
                    yield document.text
                else:
                    assert made is not None
                    yield made.decode(document.ids.tolist())

    fraction = fitting_val_fraction(islice(texts(), _LARGE_CORPUS), least=least, seed=seed)
    if fraction is None:
        check_not_empty(sources)
        raise UserError(
            "The text is too short to hold some of it out for validation.",
            fix="Give more: a few files, or one of at least some ten thousand characters.",
        )
    return fraction


def check_not_empty(sources: list[Source], *, fetch: bool = False) -> None:
    """Finds out before anything is written that a source has no text at all.

    Of the hub nothing is looked at, but with `fetch` the file that will be read first anyway.
    """
    for number, source in enumerate(sources):
        report = SourceReport()
        if source.tokenised:  # whose reading needs the tokenizer
            continue
        if source.hub is not None and not (fetch and number == 0):
            continue
        passages = replace(source, reading=replace(source.reading, documents="passage"))
        if next(passages.documents(report), None) is None:
            why = f" ({report.n_skipped} files skipped: " if report.skipped else ""
            if report.skipped:
                why += "; ".join(f"{Path(p).name}: {r}" for p, r in report.skipped[:3]) + ")"
            raise UserError(
                f"There is no text in {source.spec}{why}.",
                fix="Point at UTF-8 text: a file, a folder or a glob.",
            )


def as_documents(sources: list[Source], wanted: Sequence[Documents]) -> list[Source]:
    """The sources, each read as the documents that are wanted of it.

    `auto` comes to passages where a source has few documents, so that some of its text can be held
    out, and else to files.
    """

    def settled(source: Source, documents: Documents) -> Source:
        if documents == "auto":
            few = source.count(_ENOUGH_DOCUMENTS) < _ENOUGH_DOCUMENTS
            documents = "passage" if few else "file"
        return replace(source, reading=replace(source.reading, documents=documents))

    return [settled(s, documents) for s, documents in zip(sources, wanted, strict=True)]


def tokenizer_for(sources: list[Source], options: PrepareOptions, watch: Watch) -> Tokenizer:
    """The tokenizer that the options name, trained on the sources where it must be.

    Args:
        sources: With what a document is settled; see `as_documents`.
        options: Tokenizer and split.
        watch: Told how far the reading is.

    Raises:
        UserError: There is no such tokenizer, or it cannot be made from these sources.
    """
    made = _tokenizer_of_ids(sources, options.tokenizer)
    if not needs_training(options.tokenizer):
        return made or make_tokenizer(options.tokenizer)

    def texts() -> Iterator[str]:
        done = n_bytes = 0
        for source in sources:
            for document in source.documents(SourceReport()):
                done, n_bytes = done + 1, n_bytes + len(document.text)
                watch(Advance("tokenizer", done, n_bytes))
                # Characters are collected from everything, or held-out text could not be encoded;
                # merges are learned from the training side alone.
                side = split_of(document.text, val_fraction=options.val_fraction, seed=options.seed)
                if side == "train" or options.tokenizer == "chars":
                    yield document.text

    return make_tokenizer(options.tokenizer, texts())


def _tokenizer_of_ids(sources: list[Source], spec: str) -> Tokenizer | None:
    """The tokenizer that made the ids of sources that are tokens already; None without such."""
    tokenised = next((source for source in sources if source.tokenised), None)
    if tokenised is None:
        return None
    if needs_training(spec):
        raise UserError(
            f"{tokenised.spec} is tokens already; a tokenizer that is trained now cannot have made "
            "them.",
            fix="Say which did: --tokenizer gpt2, or the path of its tokenizer.json.",
        )
    return make_tokenizer(spec)
