"""Answers of `/v1/chat/completions`: whole, or piece by piece."""

from __future__ import annotations

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
from fromscratch.serve.making import Making
from fromscratch.serve.token_texts import TokenTexts
from fromscratch.serve.writing import Text, Writing


class Chats(Making[ChatPieceChoice]):
    """Makes answers.

    Args:
        texts: As for `Making`, and so are those not named here.
        writing: The request's texts.
        head: What all objects of the answer say.
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
        super().__init__(texts, writing, head, include_usage=include_usage)
        self._logprobs = logprobs

    def _answer(self, texts: list[Text], usage: Usage) -> ChatAnswer:
        choices = [self._choice(number, text) for number, text in enumerate(texts)]
        return ChatAnswer(**self._head, choices=choices, usage=usage)

    def _beginning(self) -> list[ChatPieceChoice]:
        """Each text begins with its role."""
        return [
            ChatPieceChoice(index=number, delta=Delta(role="assistant", content=""))
            for number in range(len(self._asked.orders))
        ]

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

    def _last(self, usage: Usage) -> ChatPiece:
        return ChatPiece(**self._head, choices=[], usage=usage)


def _absent(delta: Delta) -> dict[str, set[str]]:
    return {"delta": {name for name in ("role", "content") if getattr(delta, name) is None}}
