"""From a request to the texts that the model is to write: everything is checked here, once.

In: a request whose fields have the right types. Out: orders for the scheduler. What always holds of
an order: its ids are the model's, and the prompt with all that is new fits into the context.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from fromscratch.chat.conversations import Message, Role
from fromscratch.chat.rendering import prompt_ids, stop_ids
from fromscratch.chat.template import Template
from fromscratch.checkpoint.bundle import ModelBundle
from fromscratch.foundation.errors import UserError
from fromscratch.generate.sampling import SamplingOptions
from fromscratch.serve.errors import ApiError
from fromscratch.serve.jobs import Order
from fromscratch.serve.limits import Limits
from fromscratch.serve.schemas import ChatRequest, CompletionRequest

T = TypeVar("T")

COMPLETION_TOKENS = 16
"""OpenAI's default of the older route."""
_LONG = 20_000
"""Characters that are not encoded between two answers of the event loop."""


@dataclass(frozen=True)
class Asked:
    """What a request comes to.

    Attributes:
        orders: One for each text, in the order of the answer's choices.
        prompt_tokens: Read for it, each prompt once.
        truncated: Turns or tokens that were dropped, as the request allowed.
        prompts: The text of each order's prompt, where it is to be given back.
    """

    orders: tuple[Order, ...]
    prompt_tokens: int
    truncated: int
    prompts: tuple[str, ...] = ()


class Asking:
    """Reads requests for one model.

    Args:
        bundle: The model.
        name: As which it is served.
        limits: Of what one request may ask for.
    """

    def __init__(self, bundle: ModelBundle, name: str, limits: Limits) -> None:
        self._tokenizer, self._template = bundle.tokenizer, bundle.template
        self._context = bundle.model.config.context
        self._vocab_size = bundle.model.config.vocab_size
        self._name, self._limits = name, limits
        self._stop_ids = frozenset((bundle.tokenizer.eot_id,)) | (
            frozenset(stop_ids(bundle.template, bundle.tokenizer)) if bundle.template else set()
        )

    async def completion(self, body: CompletionRequest) -> Asked:
        """The texts of a completion.

        Raises:
            ApiError: It cannot be served; says why.
        """
        self._check(body)
        if body.echo and body.logprobs is not None:
            raise ApiError(
                400,
                "Log-probabilities of the prompt are not offered: ask for echo or for logprobs.",
                param="logprobs",
                code="unsupported_parameter",
            )
        prompts = await self._ids_of(body)
        n = body.n or 1
        self._check_texts(len(prompts) * n)
        wanted = self._asked(body.max_tokens, "max_tokens") or self._most(COMPLETION_TOKENS)
        orders: list[Order] = []
        dropped = 0
        fitted: list[tuple[int, ...]] = []
        for prompt in prompts:
            # As much new text as asked for, but never all of the context.
            keep = max(self._context - wanted, self._context // 2)
            if body.truncate and len(prompt) > keep:
                dropped += len(prompt) - keep
                prompt = prompt[-keep:]
            new = self._fit(len(prompt), wanted, exact=not body.truncate)
            fitted.append(tuple(prompt))
            orders += self._orders(body, fitted[-1], new, top_logprobs=body.logprobs, n=n)
        echoed = (
            tuple(self._tokenizer.decode(p) for p in fitted for _ in range(n)) if body.echo else ()
        )
        return Asked(tuple(orders), sum(map(len, fitted)), dropped, echoed)

    async def chat(self, body: ChatRequest) -> Asked:
        """The texts of a chat answer.

        Raises:
            ApiError: It cannot be served; says why.
        """
        template = self._template
        if template is None:
            raise ApiError(
                400,
                f"{self._name} is a base model: it continues text and has not learned the roles of "
                "a conversation. Use /v1/completions, or finetune it: "
                "fromscratch train sft-110 --from MODEL.",
                code="no_chat_template",
            )
        self._check(body)
        if body.top_logprobs is not None and not body.logprobs:
            raise ApiError(400, "top_logprobs needs logprobs: true.", param="top_logprobs")
        if body.max_tokens is not None and body.max_completion_tokens not in (
            None,
            body.max_tokens,
        ):
            raise ApiError(
                400,
                "max_tokens and max_completion_tokens are two names of one thing, and differ.",
                param="max_tokens",
            )
        n = body.n or 1
        self._check_texts(n)
        messages = _messages(body)
        wanted = self._asked(body.max_completion_tokens or body.max_tokens, "max_tokens")
        prompt, dropped = await self._rendered(template, messages, body, wanted)
        rest = self._most(max(1, self._context - len(prompt)))
        new = self._fit(len(prompt), wanted or rest, exact=not body.truncate)
        top = (body.top_logprobs or 0) if body.logprobs else None
        orders = self._orders(body, prompt, new, top_logprobs=top, n=n, texts=template.stop_texts)
        return Asked(tuple(orders), len(prompt), dropped)

    # --- prompts ----------------------------------------------------------------------------------

    async def _ids_of(self, body: CompletionRequest) -> list[list[int]]:
        prompt = body.prompt
        if isinstance(prompt, str):
            return [await self._encoded(prompt)]
        if not prompt:
            raise ApiError(400, "The list of prompts is empty.", param="prompt")
        if isinstance(prompt[0], str):
            return [await self._encoded(text) for text in prompt if isinstance(text, str)]
        lists = [prompt] if isinstance(prompt[0], int) else prompt
        ids = [[i for i in one if isinstance(i, int)] for one in lists if isinstance(one, list)]
        if any(i >= self._vocab_size for one in ids for i in one):
            raise ApiError(
                400, f"The model's token ids are 0 to {self._vocab_size - 1}.", param="prompt"
            )
        return [one or [self._tokenizer.eot_id] for one in ids]

    async def _encoded(self, text: str) -> list[int]:
        """An empty text begins a document."""
        found = await self._aside(len(text), lambda: self._tokenizer.encode(text))
        return found or [self._tokenizer.eot_id]

    async def _rendered(
        self,
        template: Template,
        messages: Sequence[Message],
        body: ChatRequest,
        wanted: int | None,
    ) -> tuple[tuple[int, ...], int]:
        """The prompt, and how many of the oldest turns were dropped so that it fits."""
        size = sum(len(message.content) for message in messages)
        system = messages[:1] if messages[0].role == "system" else ()
        turns = messages[len(system) :]
        room = self._context - min(wanted or self._context // 4, self._context // 2)
        for dropped in range(len(turns)):
            kept = (*system, *turns[dropped:])
            if dropped and kept[len(system)].role == "assistant":
                continue  # a conversation begins with the user
            ids = await self._aside(
                size,
                lambda kept=kept: prompt_ids(template, self._tokenizer, kept),  # type: ignore[misc]
            )
            if not body.truncate or len(ids) <= room or dropped == len(turns) - 1:
                return tuple(ids), dropped
        raise AssertionError("the last turn is the user's")

    async def _aside(self, size: int, encode: Callable[[], list[int]]) -> list[int]:
        try:
            return encode() if size < _LONG else await asyncio.to_thread(encode)
        except UserError as error:  # a character that the vocabulary does not have
            raise ApiError(400, str(error), code="invalid_prompt") from None

    # --- what is common ---------------------------------------------------------------------------

    def _check(self, body: ChatRequest | CompletionRequest) -> None:
        if body.model not in (None, self._name):
            raise ApiError(
                404,
                f"The model here is {self._name}; there is no other.",
                param="model",
                code="model_not_found",
            )
        if body.stream_options is not None and not body.stream:
            raise ApiError(400, "stream_options needs stream: true.", param="stream_options")

    def _check_texts(self, n: int) -> None:
        if n > self._limits.texts:
            raise ApiError(
                400,
                f"{n} texts were asked for; this server writes {self._limits.texts} for a request.",
                param="n",
            )

    def _asked(self, wanted: int | None, param: str) -> int | None:
        """A number of tokens that the request names, which must be allowed."""
        if wanted is not None and wanted > self._most(wanted):
            raise ApiError(
                400,
                f"{wanted} tokens were asked for; this server writes {self._most(wanted)} at most.",
                param=param,
            )
        return wanted

    def _most(self, wanted: int) -> int:
        most = self._limits.new_tokens
        return wanted if most is None else min(wanted, most)

    def _fit(self, n_prompt: int, wanted: int, *, exact: bool) -> int:
        """How many tokens to write."""
        room = self._context - n_prompt
        if room < 1 or (exact and wanted > room):
            raise ApiError(
                400,
                f"The model's context is {self._context} tokens: {n_prompt} of the prompt and "
                f"{wanted} new ones are more. Shorten the prompt, ask for fewer, or send "
                "truncate: true to drop the oldest part.",
                code="context_length_exceeded",
            )
        return min(wanted, room)

    def _orders(
        self,
        body: ChatRequest | CompletionRequest,
        prompt: tuple[int, ...],
        max_new_tokens: int,
        *,
        top_logprobs: int | None,
        n: int,
        texts: tuple[str, ...] = (),
    ) -> list[Order]:
        stops = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
        options = self._options(body)
        return [
            Order(
                prompt=prompt,
                max_new_tokens=max_new_tokens,
                options=options.of_sample(number),
                stop_ids=self._stop_ids,
                stop_texts=(*stops, *texts),
                asked_stops=bool(stops),
                top_logprobs=top_logprobs,
            )
            for number in range(n)
        ]

    def _options(self, body: ChatRequest | CompletionRequest) -> SamplingOptions:
        try:
            return SamplingOptions(
                temperature=_or(body.temperature, 1.0),
                top_k=_or(body.top_k, 0),
                top_p=_or(body.top_p, 1.0),
                seed=secrets.randbits(63) if body.seed is None else body.seed,
                min_p=_or(body.min_p, 0.0),
                repetition_penalty=_or(body.repetition_penalty, 1.0),
                presence_penalty=_or(body.presence_penalty, 0.0),
                frequency_penalty=_or(body.frequency_penalty, 0.0),
                logit_bias=self._biases(body.logit_bias or {}),
            )
        except UserError as error:
            raise ApiError(400, str(error)) from None

    def _biases(self, asked: dict[str, float]) -> dict[int, float]:
        known: dict[int, float] = {}
        for name, bias in asked.items():
            if not (name.isascii() and name.isdigit() and int(name[:12]) < self._vocab_size):
                raise ApiError(
                    400,
                    f"logit_bias is of token ids, 0 to {self._vocab_size - 1}.",
                    param="logit_bias",
                )
            if not -100 <= bias <= 100:
                raise ApiError(400, "logit_bias is from -100 to 100.", param="logit_bias")
            # Finite, also OpenAI's "ban" of -100: were all tokens forbidden, none could be drawn.
            known[int(name)] = bias
        return known


def _or(value: T | None, otherwise: T) -> T:
    return otherwise if value is None else value


def _messages(body: ChatRequest) -> tuple[Message, ...]:
    messages = []
    for number, turn in enumerate(body.messages):
        role: Role = "system" if turn.role == "developer" else turn.role
        if role == "system" and number:
            raise ApiError(
                400,
                f"messages[{number}] is the system's, which only the first may be.",
                param=f"messages[{number}].role",
            )
        messages.append(Message(role, turn.text))
    if messages[-1].role != "user":
        raise ApiError(
            400, "The last message must be the user's: the model answers it.", param="messages"
        )
    return tuple(messages)
