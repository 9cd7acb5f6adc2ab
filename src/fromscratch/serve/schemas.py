"""What is asked: OpenAI's requests, as far as a model that writes text can serve them.

What always holds: a field that is not here is refused with a sentence (`errors.REFUSED`), unless
its value asks for nothing (`_NOTHING`); null is the same as leaving a field out. Fields beyond
OpenAI's have the names that vLLM and llama.cpp gave them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

MOST_STOPS = 16
MOST_LOGPROBS = 20
MOST_BIASES = 1024

# OpenAI's fields with the values that ask for nothing: clients send them unasked.
_NOTHING: dict[str, tuple[Any, ...]] = {
    "tools": ([],),
    "functions": ([],),
    "tool_calls": ([],),
    "annotations": ([],),
    "tool_choice": ("none", "auto"),
    "function_call": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "suffix": ("",),
    "best_of": (1,),
}


def _texts(value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, str) and not (
        isinstance(value, list) and all(isinstance(v, str) for v in value)
    ):
        raise ValueError("is a text or a list of texts")
    if isinstance(value, list) and len(value) > MOST_STOPS:
        raise ValueError(f"has {len(value)} texts; {MOST_STOPS} are allowed")
    if "" in (value if isinstance(value, list) else [value]):
        raise ValueError("has an empty text, which is everywhere")
    return value


def _is_ids(value: Any) -> bool:
    return isinstance(value, list) and all(type(v) is int for v in value)


def _prompt(value: Any) -> Any:
    if isinstance(value, str) or _is_ids(value):
        return value
    if isinstance(value, list) and (
        all(isinstance(v, str) for v in value) or all(map(_is_ids, value))
    ):
        return value
    raise ValueError("is a text, a list of texts, token ids, or a list of lists of them")


def _content(value: Any) -> Any:
    if isinstance(value, str):
        return value
    parts = value if isinstance(value, list) else [None]
    if not all(
        isinstance(p, dict) and p.get("type") == "text" and isinstance(p.get("text"), str)
        and p.keys() <= {"type", "text"}
        for p in parts
    ):  # fmt: skip
        raise ValueError('is a text or a list of {"type": "text", "text": ...}: no other is read')
    return value


StopText = Annotated[str, Field(min_length=1)]
Stop = Annotated[
    StopText | Annotated[list[StopText], Field(max_length=MOST_STOPS)] | None,
    BeforeValidator(_texts),
]
Number = Annotated[float, Field(allow_inf_nan=False)]
Penalty = Annotated[Number, Field(ge=-2, le=2)]
Ids = list[Annotated[int, Field(ge=0)]]


class _Asked(BaseModel):
    """Strict: a number in quotes is a mistake, as it is for OpenAI."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _leave_out_what_asks_for_nothing(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        known = cls.model_fields
        return {
            name: value
            for name, value in fields.items()
            if name in known or (value is not None and value not in _NOTHING.get(name, ()))
        }


class StreamOptions(_Asked):
    """How to stream."""

    include_usage: bool | None = Field(None, description="A last piece tells the usage.")
    include_obfuscation: Literal[False] | None = Field(
        None, description="Padding is not offered: this server is yours."
    )


class _Writing(_Asked):
    """What both kinds of requests say about the text to write."""

    model: str | None = Field(None, description="The served model's name; null for it.")
    n: Annotated[int, Field(ge=1)] | None = Field(None, description="Texts for each prompt [1].")
    stream: bool | None = Field(None, description="Send the text as it is written [false].")
    stream_options: StreamOptions | None = None
    stop: Stop = Field(None, description="Texts that end the answer, and are not in it.")
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = Field(
        None, description="The same seed gives the same text; null draws one."
    )
    temperature: Annotated[Number, Field(ge=0, le=100)] | None = Field(
        None, description="0 takes the likeliest token [1]."
    )
    top_p: Annotated[Number, Field(gt=0, le=1)] | None = Field(
        None, description="Draw from the likeliest tokens with this probability together [1]."
    )
    presence_penalty: Penalty | None = Field(
        None, description="Taken from the logit of every token that was written before [0]."
    )
    frequency_penalty: Penalty | None = Field(
        None, description="Taken from a token's logit each time that it was written before [0]."
    )
    logit_bias: Annotated[dict[str, Number], Field(max_length=MOST_BIASES)] | None = Field(
        None, description="Added to the logits of token ids."
    )
    top_k: Annotated[int, Field(ge=0, lt=2**31)] | None = Field(
        None, description="Draw from the k likeliest tokens; 0 from all [0]. Beyond OpenAI's."
    )
    min_p: Annotated[Number, Field(ge=0, le=1)] | None = Field(
        None, description="Drop tokens less likely than this share of the likeliest [0]. Beyond."
    )
    repetition_penalty: Annotated[Number, Field(ge=0.01, le=100)] | None = Field(
        None, description="Divides the logits of tokens seen before [1]. Beyond OpenAI's."
    )
    truncate: bool | None = Field(
        None,
        description="Where the prompt is too long, drop its oldest part (a chat's oldest turns) "
        "and say how much in `truncated` [false: refuse]. Beyond OpenAI's.",
    )
    user: str | None = Field(None, description="A label of yours; changes nothing.")
    metadata: dict[str, str] | None = Field(None, description="Labels of yours; change nothing.")
    safety_identifier: str | None = Field(None, description="A label; changes nothing.")
    prompt_cache_key: str | None = Field(None, description="A label; changes nothing.")


class CompletionRequest(_Writing):
    """Of `/v1/completions`."""

    prompt: Annotated[str | list[str] | Ids | list[Ids], BeforeValidator(_prompt)] = Field(
        description="What to continue: text, or token ids; several for several answers. "
        "The empty text begins a document."
    )
    max_tokens: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Tokens to write at most [16, as OpenAI's]."
    )
    logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = Field(
        None, description="Log-probabilities of the tokens, and of so many others at each place."
    )
    echo: bool | None = Field(None, description="Give the prompt back before the text [false].")


class ChatMessage(_Asked):
    """A turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[str | list[dict[str, str]], BeforeValidator(_content)]

    @property
    def text(self) -> str:
        """What is said, its parts joined."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part["text"] for part in self.content)


class ChatRequest(_Writing):
    """Of `/v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Tokens to write at most [what the context leaves]."
    )
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = Field(
        None, description="OpenAI's newer name of max_tokens."
    )
    logprobs: bool | None = Field(None, description="Log-probabilities of the tokens [false].")
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = Field(
        None, description="And of so many others at each place; needs logprobs."
    )


FIELDS = {
    "/v1/completions": {"body": [*CompletionRequest.model_fields], "message": []},
    "/v1/chat/completions": {
        "body": [*ChatRequest.model_fields],
        "message": [*ChatMessage.model_fields],
    },
}
"""For each route, what may be meant by a misspelt field."""
