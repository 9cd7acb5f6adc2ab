"""What turns text into ids: one engine for each way of doing it, all with the same answer.

In: texts that UTF-8 can hold. Out: the ids of all texts in one array, and how many each text has.
The library engine (Hugging Face tokenizers) is the definition, because it reads the file as
transformers does; every other engine gives the ids that it gives, only faster. Text is encoded as
text by each of them: no special id ever comes out of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer as FastTokenizer

from fromscratch.foundation.errors import UserError
from fromscratch.tokenizer.texts import Texts

# The ids of all texts, end to end, and (n,) the number of ids of each text.
Ragged = tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]

# The numbers of the texts that an engine may get wrong.
Doubt = Callable[[Sequence[str]], list[int]]

_TIKTOKEN_MATCHERS = 128
_MISSING = np.uint32(2**32 - 1)


class Engine(Protocol):
    """Encodes texts; may be called from several threads at once."""

    name: str

    def encode_ragged(self, texts: Sequence[str]) -> Ragged:
        """The ids of all texts, end to end, and (n,) the number of ids of each."""
        ...


class LibraryEngine:
    """Hugging Face tokenizers, on its own threads; about a tenth of tiktoken's speed."""

    name = "Hugging Face tokenizers"

    def __init__(self, library: FastTokenizer) -> None:
        self._library = library

    def encode_ragged(self, texts: Sequence[str]) -> Ragged:
        """See `Engine`."""
        encoded = self._library.encode_batch_fast(list(texts), add_special_tokens=False)
        return joined([np.array(e.ids, dtype=np.uint32) for e in encoded])


class TiktokenEngine:
    """tiktoken, on the calling thread alone and with the interpreter lock released.

    Args:
        encoding: A `tiktoken.Encoding`.
        library: Takes the texts that tiktoken cannot: its matcher gives up on a run of more than a
            million blanks.
    """

    name = "tiktoken"

    def __init__(self, encoding: Any, library: Engine) -> None:
        # The public encode_to_numpy does the same after a look for special tokens in each text.
        self._core = encoding._core_bpe
        self._library = library
        self._no_specials: set[str] = set()
        self._let_no_thread_own_a_matcher()

    def encode_ragged(self, texts: Sequence[str]) -> Ragged:
        """See `Engine`."""
        return joined([self._encode(text) for text in texts])

    def _let_no_thread_own_a_matcher(self) -> None:
        """Makes several threads as fast as several processes are.

        tiktoken keeps 128 copies of its matcher and gives them to threads in turn. The first thread
        that uses a copy becomes its owner and marks that at every match; threads that own copies
        which lie side by side in memory then slow each other down, to less than half. So each copy
        is used once by a thread that is gone before the work begins (16 ms).
        """
        for _ in range(_TIKTOKEN_MATCHERS):
            thread = threading.Thread(target=self._encode, args=("a",))
            thread.start()
            thread.join()

    def _encode(self, text: str) -> npt.NDArray[np.uint32]:
        try:
            buffer = self._core.encode_to_tiktoken_buffer(text, self._no_specials)
        except ValueError:
            return self._library.encode_ragged([text])[0]
        return np.frombuffer(buffer, dtype=np.uint32)


class BytesEngine:
    """For a vocabulary without merges: each byte is looked up in a table.

    Args:
        id_of_byte: (256,) the id of each byte value.
    """

    name = "a table of bytes"

    def __init__(self, id_of_byte: npt.NDArray[np.uint32]) -> None:
        self._id_of_byte = id_of_byte

    def encode_ragged(self, texts: Sequence[str]) -> Ragged:
        """See `Engine`."""
        raw = Texts.of(texts).raw
        lengths = np.array([len(r) for r in raw], dtype=np.int64)
        return self._id_of_byte[np.frombuffer(b"".join(raw), dtype=np.uint8)], lengths


class CharactersEngine:
    """For a vocabulary of characters: each code point is looked up in a table.

    Args:
        id_of_character: The id of each character.
    """

    name = "a table of characters"

    def __init__(self, id_of_character: dict[str, int]) -> None:
        self._table = np.full(0x110000, _MISSING, dtype=np.uint32)
        for character, i in id_of_character.items():
            self._table[ord(character)] = i

    def encode_ragged(self, texts: Sequence[str]) -> Ragged:
        """See `Engine`.

        Raises:
            UserError: A text has a character that is not in the vocabulary.
        """
        lengths = np.array([len(text) for text in texts], dtype=np.int64)
        points = np.frombuffer("".join(texts).encode("utf-32-le"), dtype=np.uint32)
        ids = self._table[points]
        unknown = points[ids == _MISSING]
        if unknown.size:
            raise UserError(
                f"The character {chr(unknown[0])!r} is not in this character vocabulary.",
                fix="Train a tokenizer on text that has it, or use a byte-level one.",
            )
        return ids, lengths


class RoutedEngine:
    """A fast engine for most texts, and another for those that the fast one may get wrong.

    Args:
        fast: Takes every text that `doubtful` does not hold back.
        exact: Takes the others.
        doubtful: The numbers of the texts that must not go to `fast`.
    """

    def __init__(self, fast: Engine, exact: Engine, doubtful: Doubt) -> None:
        self.name = fast.name
        self._fast = fast
        self._exact = exact
        self._doubtful = doubtful

    def encode_ragged(self, texts: Sequence[str]) -> Ragged:
        """See `Engine`."""
        doubtful = self._doubtful(texts)
        if not doubtful:
            return self._fast.encode_ragged(texts)
        held_back = set(doubtful)
        others = [i for i in range(len(texts)) if i not in held_back]
        pieces: list[npt.NDArray[np.uint32]] = [np.zeros(0, np.uint32)] * len(texts)
        for engine, indices in ((self._fast, others), (self._exact, doubtful)):
            parts = parted(engine.encode_ragged([texts[i] for i in indices]))
            for i, part in zip(indices, parts, strict=True):
                pieces[i] = part
        return joined(pieces)


def joined(pieces: list[npt.NDArray[np.uint32]]) -> Ragged:
    """The ids of each text, put end to end."""
    lengths = np.array([len(piece) for piece in pieces], dtype=np.int64)
    return np.concatenate(pieces) if pieces else np.zeros(0, np.uint32), lengths


def parted(ragged: Ragged) -> list[npt.NDArray[np.uint32]]:
    """The ids of each text, as views."""
    ids, lengths = ragged
    ends = np.cumsum(lengths)
    return [ids[end - n : end] for end, n in zip(ends.tolist(), lengths.tolist(), strict=True)]
