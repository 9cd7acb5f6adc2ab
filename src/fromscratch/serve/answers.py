"""What is answered: OpenAI's objects, and two fields of ours.

`ended_by` says more than `finish_reason`, which knows only "stop" and "length"; `truncated` says
how much of a prompt was dropped where the request allowed it.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

EndedBy = Literal["end_of_text", "stop", "max_tokens", "time"]
FinishReason = Literal["stop", "length"]


def finish_reason(ended_by: EndedBy) -> FinishReason:
    """OpenAI's word for it: whether the text ended by itself, or was cut."""
    return "stop" if ended_by in ("end_of_text", "stop") else "length"


class Usage(BaseModel):
    """Tokens read and written, of all texts of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TopLogprob(BaseModel):
    """A token that could have stood there."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(TopLogprob):
    """A token that was written; logarithms of the model's own probabilities, before temperature."""

    top_logprobs: list[TopLogprob]


class ChatLogprobs(BaseModel):
    """Of the tokens of an answer."""

    content: list[TokenLogprob]


class TextLogprobs(BaseModel):
    """Of the tokens of a completion, in the shape of OpenAI's older route."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    text_offset: list[int]


class AssistantMessage(BaseModel):
    """What the model said."""

    role: Literal["assistant"] = "assistant"
    content: str


class ChatChoice(BaseModel):
    """One answer."""

    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: FinishReason
    ended_by: EndedBy


class ChatAnswer(BaseModel):
    """Of `/v1/chat/completions`."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: Usage
    truncated: int = 0


class Delta(BaseModel):
    """What was added to an answer; the role comes with the first piece."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChatPieceChoice(BaseModel):
    """Of one answer, what is new."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishReason | None = None
    ended_by: EndedBy | None = None


class ChatPiece(BaseModel):
    """A piece of a streamed chat answer."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatPieceChoice]
    usage: Usage | None = None
    truncated: int = 0


class TextChoice(BaseModel):
    """One completion, or in a stream what is new of it."""

    index: int
    text: str
    logprobs: TextLogprobs | None = None
    finish_reason: FinishReason | None = None
    ended_by: EndedBy | None = None


class TextAnswer(BaseModel):
    """Of `/v1/completions`; in a stream, a piece of it."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[TextChoice]
    usage: Usage | None = None
    truncated: int = 0


class ModelCard(BaseModel):
    """A model that is served."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["fromscratch"] = "fromscratch"
    context: int
    chat: bool
    template: str | None
    parameters: int
    sha256: str


class ModelList(BaseModel):
    """The one model that is served."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class Health(BaseModel):
    """Whether the model answers."""

    status: Literal["ok"] = "ok"


class ErrorContent(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(BaseModel):
    """Of every request that fails."""

    error: ErrorContent
