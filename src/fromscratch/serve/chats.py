"""Answers of `/v1/chat/completions`: whole, or piece by piece."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from fromscratch.serve.answers import (
    AssistantMessage,
    ChatAnswer,
    ChatChoice,
    ChatPiece,
    ChatPieceChoice,
    Delta,
    Usage,
    finish_reason,
)
from fromscratch.serve.jobs import Ended, Event, Written
from fromscratch.serve.token_texts import TokenTexts
from fromscratch.serve.writing import Text, Writing, whole


class Chats:
    """Makes answers.

    Args:
        texts: Spells tokens.
        writing: The request's texts.
        head: What all objects of the answer say: id, created, model, system_fingerprint.
        logprobs: Whether the request asked for them.
        include_usage: Whether a stream ends with the usage.
    """

    def __init__(
        self,
        texts: TokenTexts,
        writing: Writing,
        head: dict[str, Any],
        *,
        logprobs: bool,
        include_usage: bool,
    ) -> None:
        self._texts, self._writing = texts, writing
        self._asked = writing.asked
        self._head = {**head, "truncated": self._asked.truncated}
        self._logprobs, self._include_usage = logprobs, include_usage

    async def whole(self) -> ChatAnswer:
        """When all texts are complete."""
        texts = await whole(self._writing)
        return ChatAnswer(
            **self._head,
            choices=[self._choice(number, text) for number, text in enumerate(texts)],
            usage=self._usage(sum(text.ended.n_tokens for text in texts if text.ended)),
        )

    async def pieces(self) -> AsyncIterator[list[str]]:
        """Yields JSON texts as the answers are written; each begins with its role."""
        yield [
            self._piece(ChatPieceChoice(index=number, delta=Delta(role="assistant", content="")))
            for number in range(len(self._asked.orders))
        ]
        n_tokens = 0
        async for events in self._writing.events():
            found = []
            for number, event in events:
                n_tokens += event.n_tokens if isinstance(event, Ended) else 0
                found.append(self._piece(self._news(number, event)))
            yield found
        if self._include_usage:
            last = ChatPiece(**self._head, choices=[], usage=self._usage(n_tokens))
            yield [last.model_dump_json()]

    def _news(self, number: int, event: Event) -> ChatPieceChoice:
        if isinstance(event, Ended):
            return ChatPieceChoice(
                index=number,
                delta=Delta(),
                finish_reason=finish_reason(event.by),
                ended_by=event.by,
            )
        if isinstance(event, Written):
            return ChatPieceChoice(
                index=number,
                delta=Delta(content=event.text),
                logprobs=self._texts.chat(event.tokens) if event.tokens else None,
            )
        raise event.error

    def _choice(self, number: int, text: Text) -> ChatChoice:
        assert text.ended is not None
        return ChatChoice(
            index=number,
            message=AssistantMessage(content=text.text),
            logprobs=self._texts.chat(text.tokens) if self._logprobs else None,
            finish_reason=finish_reason(text.ended.by),
            ended_by=text.ended.by,
        )

    def _piece(self, choice: ChatPieceChoice) -> str:
        piece = ChatPiece(**self._head, choices=[choice])
        # A delta says what is new: a role of null would be one.
        return piece.model_dump_json(exclude={"choices": {"__all__": _absent(choice.delta)}})

    def _usage(self, n_tokens: int) -> Usage:
        read = self._asked.prompt_tokens
        return Usage(prompt_tokens=read, completion_tokens=n_tokens, total_tokens=read + n_tokens)


def _absent(delta: Delta) -> dict[str, set[str]]:
    return {"delta": {name for name in ("role", "content") if getattr(delta, name) is None}}
