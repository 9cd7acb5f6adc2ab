"""Answers of `/v1/completions`: whole, or piece by piece."""

from __future__ import annotations

from typing import Any

from fromscratch.serve.answers import TextAnswer, TextChoice, TextLogprobs, Usage, finish_reason
from fromscratch.serve.jobs import Ended, Event, Placed, Written
from fromscratch.serve.making import Making
from fromscratch.serve.token_texts import TokenTexts
from fromscratch.serve.writing import Text, Writing


class Completions(Making[TextChoice]):
    """Makes answers.

    Args:
        texts: As for `Making`, and so are those not named here.
        writing: The request's texts.
        head: What all objects of the answer say.
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
        super().__init__(texts, writing, head, include_usage=include_usage)
        self._logprobs = logprobs

    def _answer(self, texts: list[Text], usage: Usage) -> TextAnswer:
        choices = [self._choice(number, text) for number, text in enumerate(texts)]
        return TextAnswer(**self._head, choices=choices, usage=usage)

    def _beginning(self) -> list[TextChoice]:
        """The prompts, where they are to be repeated."""
        echoes = [self._echo(number) for number in range(len(self._asked.orders))]
        if not any(echoes):
            return []
        return [TextChoice(index=number, text=echo) for number, echo in enumerate(echoes)]

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

    def _last(self, usage: Usage) -> TextAnswer:
        return TextAnswer(**self._head, choices=[], usage=usage)
