"""Answers of `/v1/completions`: whole, or piece by piece."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from fromscratch.serve.answers import TextAnswer, TextChoice, TextLogprobs, Usage, finish_reason
from fromscratch.serve.jobs import Ended, Event, Placed, Written
from fromscratch.serve.token_texts import TokenTexts
from fromscratch.serve.writing import Text, Writing, whole


class Completions:
    """Makes answers.

    Args:
        texts: Spells tokens.
        writing: The request's texts.
        head: What all objects of the answer say: id, created, model, system_fingerprint.
        logprobs: As the request asked for them.
        include_usage: Whether a stream ends with the usage.
    """

    def __init__(
        self,
        texts: TokenTexts,
        writing: Writing,
        head: dict[str, Any],
        *,
        logprobs: int | None,
        include_usage: bool,
    ) -> None:
        self._texts, self._writing = texts, writing
        self._asked = writing.asked
        self._head = {**head, "truncated": self._asked.truncated}
        self._logprobs, self._include_usage = logprobs, include_usage

    async def whole(self) -> TextAnswer:
        """When all texts are complete."""
        texts = await whole(self._writing)
        return TextAnswer(
            **self._head,
            choices=[self._choice(number, text) for number, text in enumerate(texts)],
            usage=self._usage(sum(text.ended.n_tokens for text in texts if text.ended)),
        )

    async def pieces(self) -> AsyncIterator[list[str]]:
        """Yields JSON texts as the texts are written."""
        if any(map(self._echo, range(len(self._asked.orders)))):
            yield [
                self._piece(TextChoice(index=number, text=self._echo(number)))
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
            yield [
                TextAnswer(**self._head, choices=[], usage=self._usage(n_tokens)).model_dump_json()
            ]

    def _news(self, number: int, event: Event) -> TextChoice:
        if isinstance(event, Ended):
            return TextChoice(
                index=number, text="", finish_reason=finish_reason(event.by), ended_by=event.by
            )
        if isinstance(event, Written):
            return TextChoice(
                index=number,
                text=event.text,
                logprobs=self._of(event.tokens, number) if event.tokens else None,
            )
        raise event.error

    def _choice(self, number: int, text: Text) -> TextChoice:
        assert text.ended is not None
        return TextChoice(
            index=number,
            text=self._echo(number) + text.text,
            logprobs=self._of(text.tokens, number) if self._logprobs is not None else None,
            finish_reason=finish_reason(text.ended.by),
            ended_by=text.ended.by,
        )

    def _of(self, tokens: tuple[Placed, ...] | list[Placed], number: int) -> TextLogprobs:
        return self._texts.completion(tokens, self._logprobs or 0, len(self._echo(number)))

    def _echo(self, number: int) -> str:
        return self._asked.prompts[number] if self._asked.prompts else ""

    def _piece(self, choice: TextChoice) -> str:
        return TextAnswer(**self._head, choices=[choice]).model_dump_json()

    def _usage(self, n_tokens: int) -> Usage:
        read = self._asked.prompt_tokens
        return Usage(prompt_tokens=read, completion_tokens=n_tokens, total_tokens=read + n_tokens)
