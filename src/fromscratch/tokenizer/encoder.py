"""Chooses the engine that encodes: the fastest one whose ids are proven to be the file's.

In: a `tokenizer.json`. What always holds: the ids are those of Hugging Face tokenizers, which reads
the file as transformers does. A few sentences go through it directly; from there on it is tiktoken
where `tiktoken_form` has a proof and the self-test agrees; and, where somebody asks for it because
there is much text, gigatoken.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from tokenizers import Tokenizer as FastTokenizer

from fromscratch.tokenizer.engines import (
    BytesEngine,
    CharactersEngine,
    Engine,
    LibraryEngine,
    Ragged,
    RoutedEngine,
    TiktokenEngine,
)
from fromscratch.tokenizer.self_test import first_difference, nasty_texts
from fromscratch.tokenizer.tiktoken_form import TiktokenForm, tiktoken_form

# Making tiktoken's tables and comparing them takes as long as encoding this many characters.
_WORTH_TIKTOKEN = 500_000


class Encoder:
    """Text to ids by the best engine there is; may be called from several threads.

    Args:
        spec: The content of a `tokenizer.json`.
        library: The same as Hugging Face tokenizers runs it, special tokens encoded as text.
        bytes_of_id: (vocab_size,) what each id stands for; empty for special ids.

    Attributes:
        note: What encodes, and why not something faster; empty until that is decided.
    """

    def __init__(
        self, spec: dict[str, Any], library: FastTokenizer, bytes_of_id: list[bytes]
    ) -> None:
        self._spec = spec
        self._bytes_of_id = bytes_of_id
        self._lock = threading.Lock()
        self._seen = 0
        self._chosen: Engine | None = None
        self._definition: Engine = LibraryEngine(library)
        self.note = ""
        if spec["decoder"]["type"] == "Fuse":
            ids = library.get_vocab(with_added_tokens=False)
            self._settle(CharactersEngine({c: i for c, i in ids.items() if len(c) == 1}))

    def encode_ragged(self, texts: Sequence[str]) -> Ragged:
        """See `Engine`; texts without lone surrogates."""
        if self._chosen is None:
            self._seen += sum(map(len, texts))
            if self._seen < _WORTH_TIKTOKEN:
                return self._definition.encode_ragged(texts)
            self.choose(fast=False)
        assert self._chosen is not None
        return self._chosen.encode_ragged(texts)

    def choose(self, *, fast: bool) -> None:
        """Settles on an engine, unless that has been done.

        Args:
            fast: Whether gigatoken may be used. It takes about a second to make and compare.
        """
        with self._lock:
            if self._chosen is not None:
                return
            form = tiktoken_form(self._spec, self._bytes_of_id)
            if isinstance(form, str):
                self._settle(self._definition, form)
            elif not self._spec["model"]["merges"] and not form.doubtful:
                self._settle(BytesEngine(_id_of_byte(self._bytes_of_id)))
            else:
                self._choose_for(form, fast=fast)

    def _choose_for(self, form: TiktokenForm, *, fast: bool) -> None:
        plain = _tiktoken_engine(form, self._definition)
        difference = first_difference(plain, self._definition, nasty_texts())
        if difference is not None:
            self._settle(self._definition, f"{plain.name} has other ids for {difference[:40]!r}")
            return
        why_not = ""
        best = plain
        if fast and form.is_cut:
            from fromscratch.tokenizer.gigatoken_engine import gigatoken_engine

            quicker = gigatoken_engine(self._spec, plain)
            if isinstance(quicker, str):
                why_not = quicker
            else:
                best = quicker
        if form.doubtful is not None:
            best = RoutedEngine(best, self._definition, form.doubtful)
        self._settle(best, why_not)

    def _settle(self, engine: Engine, why_not_faster: str = "") -> None:
        self._chosen = engine
        reason = f" ({why_not_faster})" if why_not_faster else ""
        self.note = f"Encoded by {engine.name}{reason}."


def _tiktoken_engine(form: TiktokenForm, library: Engine) -> Engine:
    import tiktoken

    # Its matcher of special tokens must look for something; what it finds is not allowed to count.
    never = max(form.ranks.values()) + 1
    encoding = tiktoken.Encoding(
        "fromscratch",
        pat_str=form.pattern,
        mergeable_ranks=form.ranks,
        special_tokens={"<|no special token|>": never},
    )
    return TiktokenEngine(encoding, library)


def _id_of_byte(bytes_of_id: list[bytes]) -> np.ndarray[tuple[int], np.dtype[np.uint32]]:
    table = np.zeros(256, dtype=np.uint32)
    for i, token in enumerate(bytes_of_id):
        if len(token) == 1:
            table[token[0]] = i
    return table
