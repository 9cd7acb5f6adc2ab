"""What both routes make of a request's texts: an answer, whole or piece by piece."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from fromscratch.serve.answers import Usage
from fromscratch.serve.jobs import Ended, Event
from fromscratch.serve.token_texts import TokenTexts
from fromscratch.serve.writing import Text, Writing, whole

Choice = TypeVar("Choice", bound=BaseModel)
"""A text in a piece of the answer."""


class Making(ABC, Generic[Choice]):
    """Makes answers; a route says of which kind.

    Args:
        texts: Spells tokens.
        writing: The request's texts.
        head: What all objects of the answer say: id, created, model, system_fingerprint.
        include_usage: Whether a stream ends with the usage.
    """

    def __init__(
        self, texts: TokenTexts, writing: Writing, head: dict[str, Any], *, include_usage: bool
    ) -> None:
        self._texts, self._writing = texts, writing
        self._asked = writing.asked
        self._head = {**head, "truncated": self._asked.truncated}
        self._include_usage = include_usage

    async def whole(self) -> BaseModel:
        """When all texts are complete."""
        texts = await whole(self._writing)
        n_tokens = sum(text.ended.n_tokens for text in texts if text.ended)
        return self._answer(texts, self._usage(n_tokens))

    async def pieces(self) -> AsyncIterator[list[str]]:
        """Yields JSON texts as the texts are written."""
        if first := [self._piece(choice) for choice in self._beginning()]:
            yield first
        n_tokens = 0
        async for events in self._writing.events():
            found = []
            for number, event in events:
                n_tokens += event.n_tokens if isinstance(event, Ended) else 0
                found.append(self._piece(self._news(number, event)))
            yield found
        if self._include_usage:
            yield [self._last(self._usage(n_tokens)).model_dump_json()]

    def _usage(self, n_tokens: int) -> Usage:
        read = self._asked.prompt_tokens
        return Usage(prompt_tokens=read, completion_tokens=n_tokens, total_tokens=read + n_tokens)

    @abstractmethod
    def _answer(self, texts: list[Text], usage: Usage) -> BaseModel:
        """The whole answer."""

    @abstractmethod
    def _beginning(self) -> list[Choice]:
        """What a stream says before anything is written; it may be nothing."""

    @abstractmethod
    def _news(self, number: int, event: Event) -> Choice:
        """What has happened to a text.

        Raises:
            ApiError: It cannot be written.
        """

    @abstractmethod
    def _piece(self, choice: Choice) -> str:
        """A piece of a stream, as JSON."""

    @abstractmethod
    def _last(self, usage: Usage) -> BaseModel:
        """The piece with the usage."""
