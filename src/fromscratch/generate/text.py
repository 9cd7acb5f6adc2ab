"""Text out of a stream of token ids: whole characters, and never a part of a stop string.

In: ids, one at a time. Out: the text that is certain by now. Held back are the bytes of a character
that is not whole yet (R17) and the end of the text where a stop string may be beginning; both come
out as soon as they are settled. A stop string, and all after it, never comes out.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Sequence

from fromscratch.foundation.errors import UserError
from fromscratch.tokenizer.tokenizer import Tokenizer


class TextStream:
    """The text of one sequence as it grows.

    Args:
        tokenizer: Whose ids are pushed.
        stop: Texts that end the text; not empty ones.

    Attributes:
        stopped: Whether a stop string was met; then nothing more comes out.

    Raises:
        UserError: An empty stop string.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        if not all(stop):
            raise UserError("A stop string is empty.", fix="Leave it out.")
        self._tokenizer, self._stop = tokenizer, tuple(stop)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """Takes one more id; returns the text that is certain now, often nothing."""
        return self._take(self._decoder.decode(self._tokenizer.decode_bytes((token,))))

    def finish(self) -> str:
        """The rest, when no more ids come; half a character becomes U+FFFD."""
        text = self._take(self._decoder.decode(b"", final=True)) + self._held
        self._held = ""
        return text

    def _take(self, text: str) -> str:
        if self.stopped:
            return ""
        self._held += text
        found = [(self._held.find(stop), len(stop)) for stop in self._stop]
        met = [(at + size, at) for at, size in found if at >= 0]
        if met:
            # The one that is whole first, so that it does not matter where the tokens end.
            certain, self._held, self.stopped = self._held[: min(met)[1]], "", True
            return certain
        keep = self._beginning()
        certain = self._held[: len(self._held) - keep]
        self._held = self._held[len(certain) :]
        return certain

    def _beginning(self) -> int:
        """How many of the last characters may be the beginning of a stop string."""
        longest = max((len(stop) for stop in self._stop), default=1) - 1
        for size in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-size:]) for stop in self._stop):
                return size
        return 0


def text_until_stopped(ids: Iterable[int], text: TextStream) -> Iterator[str]:
    """The pieces of a text as its ids come, up to where a stop string would."""
    for token in ids:
        yield text.push(token)
        if text.stopped:
            return
    yield text.finish()
