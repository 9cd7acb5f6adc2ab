"""gigatoken: many times tiktoken's speed, trusted only as far as it has been compared.

In: the content of a `tokenizer.json` and an engine that is known to be right. Out: an engine with
the same ids, or in words why there is none. What holds:

- before the first text, both have encoded the self-test alike;
- a text with a character that the two take for different kinds (gigatoken follows a newer version
  of Unicode than tiktoken) goes to the other engine;
- the first megabyte, and after it one text in a thousand, is encoded by both; a difference ends
  the program rather than writing ids that nobody can vouch for.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from fromscratch.foundation.errors import UserError
from fromscratch.tokenizer.engines import Doubt, Engine, Ragged, RoutedEngine
from fromscratch.tokenizer.self_test import (
    code_points_that_differ,
    first_difference,
    nasty_texts,
)
from fromscratch.tokenizer.texts import Texts

_COMPARED_FROM_THE_START = 1_000_000
_COMPARED_ONE_IN = 1_000
_COMPARED_CHARACTERS = 100_000
# Its cache of words grows with the text, by up to eight bytes for each; a new one starts small.
_BYTES_UNTIL_RENEWAL = 128_000_000
# More than a new version of Unicode brings: then it is something else that differs.
_MOST_DIFFERENT_CHARACTERS = 20_000


class _Backends:
    """Rust tokenizers, one for each thread at a time: each works on one text after the other."""

    def __init__(self, content: str) -> None:
        self._content = content
        self._idle: list[tuple[Any, int]] = []  # with the bytes it has still to go

    def take(self) -> tuple[Any, int]:
        """One that nobody uses; a new one where there is none."""
        try:
            return self._idle.pop()
        except IndexError:
            from gigatoken.gigatoken_rs import load_hf_json

            return load_hf_json(self._content), _BYTES_UNTIL_RENEWAL

    def give_back(self, backend: Any, left: int) -> None:
        """Keeps it for the next one who asks, unless its cache has grown enough."""
        if left > 0:
            self._idle.append((backend, left))


class GigatokenEngine:
    """gigatoken on the calling thread, compared with another engine as it goes.

    Args:
        content: A `tokenizer.json` without added tokens.
        exact: What it is compared with.
    """

    def __init__(self, content: str, exact: Engine) -> None:
        self.name = f"gigatoken {version('gigatoken')}"
        self._backends = _Backends(content)
        self._exact = exact
        self._lock = threading.Lock()
        self._texts = self._characters = 0

    def encode_ragged(self, texts: Sequence[str]) -> Ragged:
        """See `Engine`.

        Raises:
            UserError: The ids of a text that was compared were not the exact engine's.
        """
        compared = self._to_compare(texts)
        if compared:
            self._compare([text[:_COMPARED_CHARACTERS] for text in compared])
        return self.encode_unchecked(texts)

    def encode_unchecked(self, texts: Sequence[str]) -> Ragged:
        """Encodes without comparing; for the self-test."""
        raw = Texts.of(texts).raw
        backend, left = self._backends.take()
        layout = backend.encode_batch(raw, parallel=False).layout
        self._backends.give_back(backend, left - sum(map(len, raw)))
        ids = np.asarray(layout.content.data)
        return ids, np.diff(np.asarray(layout.offsets.data))

    def _to_compare(self, texts: Sequence[str]) -> list[str]:
        with self._lock:
            start, seen = self._texts, self._characters
            self._texts += len(texts)
            self._characters += sum(map(len, texts))
        if seen < _COMPARED_FROM_THE_START:
            return list(texts)
        return [text for i, text in enumerate(texts, start) if i % _COMPARED_ONE_IN == 0]

    def _compare(self, texts: list[str]) -> None:
        text = first_difference(_Unchecked(self), self._exact, texts)
        if text is not None:
            raise UserError(
                f"{self.name} gave other ids than {self._exact.name} for the text that begins "
                f"{text[:60]!r}; what it has encoded so far cannot be vouched for.",
                fix="Prepare again with --no-fast, and please report the text.",
            )


class _Unchecked:
    """The engine as it is, without its comparisons."""

    def __init__(self, engine: GigatokenEngine) -> None:
        self.name = engine.name
        self._engine = engine

    def encode_ragged(self, texts: Sequence[str]) -> Ragged:
        """See `Engine`."""
        return self._engine.encode_unchecked(texts)


def gigatoken_engine(spec: dict[str, Any], exact: Engine) -> Engine | str:
    """Gigatoken for a `tokenizer.json`, after the self-test.

    Args:
        spec: The file's content; text is cut before merging, and no normaliser is left out.
        exact: The engine that gives the right ids.

    Returns:
        The engine, or in words why there is none.
    """
    # Without added tokens it can find none in a text.
    content = json.dumps(spec | {"added_tokens": [], "post_processor": None, "normalizer": None})
    try:
        engine = GigatokenEngine(content, exact)
        engine.encode_unchecked([""])
    except ImportError:
        return "gigatoken is not installed (pip install 'fromscratch[fast]')"
    except Exception:  # the library raises its own kinds, mostly of patterns it does not know
        return "gigatoken does not know this kind of tokenizer"
    plain = _Unchecked(engine)
    characters = code_points_that_differ(plain, exact)
    if len(characters) > _MOST_DIFFERENT_CHARACTERS or any(c.isascii() for c in characters):
        return f"{engine.name} takes {len(characters):,} characters for another kind"
    doubtful = _search_for(characters)
    difference = first_difference(RoutedEngine(plain, exact, doubtful), exact, nasty_texts())
    if difference is not None:
        return f"{engine.name} has other ids for {difference[:40]!r}"
    return RoutedEngine(engine, exact, doubtful)


def _search_for(characters: list[str]) -> Doubt:
    """Which texts have one of the characters: a look at their UTF-8, at many times its reading.

    The characters are rare, so few bytes are as high as the lowest byte that one begins with; only
    there is a code point put together from its bytes.
    """
    if not characters:
        return lambda texts: []
    wanted = np.zeros(0x110000, dtype=np.bool_)
    wanted[[ord(c) for c in characters]] = True
    lowest = min(c.encode("utf-8")[0] for c in characters)
    assert lowest >= 0xC2, "not ASCII"

    def has_one(raw: bytes) -> bool:
        if raw.isascii():
            return False
        # Three bytes more, so that the last character too can be read as one of four.
        b = np.frombuffer(raw + bytes(3), dtype=np.uint8)
        starts = np.flatnonzero(b >= lowest)
        first, second, third, fourth = (b[starts + i].astype(np.uint32) & 0x3F for i in range(4))
        lead = b[starts]
        points = (first & 0x1F) << 6 | second
        three = (first & 0x0F) << 12 | second << 6 | third
        points = np.where(lead >= 0xE0, three, points)
        four = (first & 0x07) << 18 | second << 12 | third << 6 | fourth
        points = np.where(lead >= 0xF0, four, points)
        return bool(wanted[points].any())

    return lambda texts: [i for i, raw in enumerate(Texts.of(texts).raw) if has_one(raw)]
