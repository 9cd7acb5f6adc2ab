"""One text to write: what a request asks of the model, and what it hears back.

A job is made by a request's coroutine and worked on by the model's thread; between them go events,
in the order in which things happened, and one flag that says that nobody waits any more.
"""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import Callable
from dataclasses import dataclass

from fromscratch.generate.sampling import Sampler, SamplingOptions
from fromscratch.generate.text import TextStream
from fromscratch.generate.tokens import TokenOutput
from fromscratch.serve.answers import EndedBy
from fromscratch.serve.errors import ApiError
from fromscratch.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Placed:
    """A token of the text.

    Attributes:
        token: With its log-probabilities.
        offset: Characters of the text before it; a token that is a part of a character is where
            that character is.
    """

    token: TokenOutput
    offset: int


@dataclass(frozen=True)
class Written:
    """Some more of the text.

    Attributes:
        text: In whole characters; may be empty where there are tokens only.
        tokens: Those that begin in it; only where log-probabilities were asked for.
    """

    text: str
    tokens: tuple[Placed, ...] = ()


@dataclass(frozen=True)
class Ended:
    """The text is complete."""

    by: EndedBy
    n_tokens: int


@dataclass(frozen=True)
class Failed:
    """The text cannot be written, or not to its end."""

    error: ApiError


Event = Written | Ended | Failed


@dataclass(frozen=True)
class Order:
    """What is to be written.

    Attributes:
        prompt: Token ids; jobs with the same object share the reading of it.
        max_new_tokens: At least one; fits into the context behind the prompt.
        options: How to choose, with a seed of its own.
        stop_ids: Tokens that end the text.
        stop_texts: Texts that end it.
        asked_stops: Whether the request named stop texts, and not only the template.
        top_logprobs: Log-probabilities of so many other tokens; None for none at all.
    """

    prompt: tuple[int, ...]
    max_new_tokens: int
    options: SamplingOptions
    stop_ids: frozenset[int]
    stop_texts: tuple[str, ...] = ()
    asked_stops: bool = False
    top_logprobs: int | None = None


class Mailbox:
    """Where a request's coroutine waits for the events of its jobs."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()

    def put(self, number: int, event: Event) -> None:
        """On the loop's thread only."""
        self._queue.put_nowait((number, event))

    async def get(self) -> list[tuple[int, Event]]:
        """All that is there; waits for one."""
        found = [await self._queue.get()]
        while not self._queue.empty():
            found.append(self._queue.get_nowait())
        return found


class Job:
    """A text under way; but for `cancelled`, the model's thread's alone.

    Args:
        order: What is to be written.
        number: Of the text in its request.
        mailbox: Of the request.
        begun: When the request came, in the seconds of `time.monotonic`.
        deadline: When the text must be complete.
    """

    def __init__(
        self, order: Order, number: int, mailbox: Mailbox, *, begun: float, deadline: float
    ) -> None:
        self.order, self.number, self.mailbox = order, number, mailbox
        self.begun, self.deadline = begun, deadline
        self.cancelled = False
        self.first_token: float | None = None
        self.n_tokens = 0
        self.slot = -1

    def start(self, tokenizer: Tokenizer) -> None:
        """Before the first token."""
        self.sampler = Sampler(self.order.options, self.order.prompt)
        self._text = TextStream(tokenizer, self.order.stop_texts)
        self._decode_bytes = tokenizer.decode_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._read = self._given = 0  # characters: of all tokens, of what came out
        self._held: list[Placed] = []

    def take(self, token: TokenOutput, say: Callable[[Event], None]) -> EndedBy | None:
        """Adds a token to the text.

        Args:
            token: What was chosen.
            say: Takes what is certain now.

        Returns:
            What ended the text; None if it goes on.
        """
        if token.id in self.order.stop_ids:
            self._finish(say)
            return "end_of_text"
        self.n_tokens += 1
        if self.order.top_logprobs is not None:
            self._held.append(Placed(token, self._read))
            self._read += len(self._decoder.decode(self._decode_bytes((token.id,))))
        text = self._text.push(token.id)
        if self._text.stopped:
            self._say(text, say)
            return "stop" if self.order.asked_stops else "end_of_text"
        if self.n_tokens == self.order.max_new_tokens:
            self._finish(say, text)
            return "max_tokens"
        self._say(text, say)
        return None

    def stop_here(self, say: Callable[[Event], None]) -> None:
        """What was held back comes out: the text ends where it is."""
        self._finish(say)

    def _finish(self, say: Callable[[Event], None], text: str = "") -> None:
        text += self._text.finish()
        tokens, self._held = tuple(self._held), []
        if text or tokens:
            say(Written(text, tokens))

    def _say(self, text: str, say: Callable[[Event], None]) -> None:
        """A token comes out with the first character that is its own."""
        if not text:
            return
        self._given += len(text)
        out = [placed for placed in self._held if placed.offset < self._given]
        self._held = self._held[len(out) :]
        say(Written(text, tuple(out)))
