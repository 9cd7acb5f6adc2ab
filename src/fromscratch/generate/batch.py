"""Many prompts continued together, each as if it were alone.

In: requests, each with a prompt of any length and options of its own. Out: for each what follows
it. They pass through the slots of `slots.py`: as soon as one has ended, the next takes its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fromscratch.chat.conversations import Message
from fromscratch.chat.rendering import prompt_ids, stop_ids
from fromscratch.chat.template import Template
from fromscratch.foundation.errors import UserError
from fromscratch.generate.engine import FinishReason, check_bias
from fromscratch.generate.sampling import Sampler, SamplingOptions
from fromscratch.generate.slots import Slots, check_ids
from fromscratch.generate.text import TextStream
from fromscratch.generate.tokens import TokenOutput, with_logprobs
from fromscratch.model.gpt import GPT
from fromscratch.tokenizer.tokenizer import Tokenizer

N_SLOTS = 8
"""Sequences at a time; with more a step takes longer and memory grows."""


@dataclass(frozen=True)
class Request:
    """A prompt and how to continue it.

    Attributes:
        prompt: Ids, at least one; with what is new they fit into the context.
        max_new_tokens: At most.
        options: How to choose tokens; the seed is this request's own.
        stop: Texts that end it.
        stop_ids: Ids that end it.
        top_logprobs: As for `generate_tokens`.
    """

    prompt: Sequence[int]
    max_new_tokens: int
    options: SamplingOptions
    stop: Sequence[str] = ()
    stop_ids: Sequence[int] = ()
    top_logprobs: int | None = None


@dataclass(frozen=True)
class Completion:
    """What follows a prompt.

    Attributes:
        text: In whole characters, without what ended it.
        tokens: Without the stop id; a stop string's are among them.
        finish: Why it ends.
    """

    text: str
    tokens: tuple[TokenOutput, ...]
    finish: FinishReason


def answer_request(
    template: Template,
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    *,
    max_new_tokens: int,
    options: SamplingOptions,
) -> Request:
    """The request for what the assistant says next, which ends where its turn does.

    Raises:
        UserError: The tokenizer lacks the template's tokens, or a character.
    """
    return Request(
        prompt_ids(template, tokenizer, messages),
        max_new_tokens,
        options,
        template.stop_texts,
        stop_ids(template, tokenizer),
    )


def samples_of(request: Request, n: int) -> list[Request]:
    """The requests for n samples of one prompt; the first is the request itself."""
    return [
        Request(
            request.prompt,
            request.max_new_tokens,
            request.options.of_sample(number),
            request.stop,
            request.stop_ids,
            request.top_logprobs,
        )
        for number in range(n)
    ]


def complete(
    model: GPT,
    tokenizer: Tokenizer,
    requests: Sequence[Request],
    *,
    n_slots: int = N_SLOTS,
    on_done: Callable[[int, Completion], None] = lambda number, completion: None,
) -> list[Completion]:
    """Continues prompts.

    Args:
        model: Uncompiled; its mode is restored afterwards.
        tokenizer: Of the model.
        requests: Any number.
        n_slots: How many at a time.
        on_done: Told of each as it ends: its number and what it gave.

    Returns:
        A completion for each request, in its place.

    Raises:
        UserError: An empty prompt, an id outside the vocabulary, a sequence longer than the
            context, an empty stop string.
    """
    streams = [TextStream(tokenizer, request.stop) for request in requests]
    texts = [""] * len(requests)
    outputs: list[list[TokenOutput]] = [[] for _ in requests]
    done: dict[int, Completion] = {}

    def keep(number: int, output: TokenOutput | None) -> bool:
        stream, request = streams[number], requests[number]
        if output is not None:
            outputs[number].append(output)
            texts[number] += stream.push(output.id)
        full = len(outputs[number]) == request.max_new_tokens
        if output is not None and not stream.stopped and not full:
            return False
        texts[number] += stream.finish()
        ended = stream.stopped or (output is None and not full)
        finish: FinishReason = "stop" if ended else "length"
        done[number] = Completion(texts[number], tuple(outputs[number]), finish)
        on_done(number, done[number])
        return True

    _run(model, requests, n_slots, keep)
    return [done[number] for number in range(len(requests))]


def generate_batch(
    model: GPT,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    options: SamplingOptions,
    is_done: Callable[[int, list[int]], bool],
) -> list[list[int]]:
    """Continues prompts until a function of the ids says so.

    Args:
        model: Uncompiled; its mode is restored afterwards.
        prompts: At least one id each; with what is new they fit into the context.
        max_new_tokens: For each.
        options: How to choose; the n-th prompt has the seed of the n-th sample.
        is_done: Given the number of a prompt and what follows it so far: whether that is all.

    Returns:
        The new ids of each prompt, in its place.

    Raises:
        UserError: An empty prompt, or a sequence longer than the context.
    """
    new: list[list[int]] = [[] for _ in prompts]
    if max_new_tokens < 1:
        return new
    requests = [
        Request(prompt, max_new_tokens, options.of_sample(number))
        for number, prompt in enumerate(prompts)
    ]

    def keep(number: int, output: TokenOutput | None) -> bool:
        assert output is not None, "there are no stop ids"
        new[number].append(output.id)
        return len(new[number]) == max_new_tokens or is_done(number, new[number])

    _run(model, requests, max(1, len(prompts)), keep)
    return new


def _run(
    model: GPT,
    requests: Sequence[Request],
    n_slots: int,
    keep: Callable[[int, TokenOutput | None], bool],
) -> None:
    """Generates; `keep` is given each token of a request, None for a stop id, and says if all."""
    waiting = [number for number, request in enumerate(requests) if request.max_new_tokens > 0]
    for number, request in enumerate(requests):
        _check(model, request)
        if request.max_new_tokens < 1:
            keep(number, None)
    if not waiting:
        return
    longest = max(len(request.prompt) + request.max_new_tokens for request in requests)
    was_training = model.training
    model.eval()
    slots = Slots(model, min(n_slots, len(waiting)), capacity=longest, pack=not was_training)
    waiting.reverse()
    samplers: dict[int, tuple[int, Sampler]] = {}  # by slot
    try:
        while waiting or slots.taken:
            while waiting and slots.n_free:
                number = waiting.pop()
                request = requests[number]
                sampler = Sampler(request.options, request.prompt)
                samplers[slots.admit(request.prompt)] = (number, sampler)
            for slot, logits in slots.step():
                number, sampler = samplers[slot]
                request = requests[number]
                token = sampler.choose(logits)
                ended = token in request.stop_ids
                output = None if ended else with_logprobs(token, logits, request.top_logprobs)
                if keep(number, output):
                    slots.free(slot)
                else:
                    slots.feed(slot, token)
    finally:
        model.train(was_training)


def _check(model: GPT, request: Request) -> None:
    check_bias(model, request.options)
    check_ids(model, request.prompt)
    length, new = len(request.prompt), request.max_new_tokens
    if length + new > model.config.context:
        raise UserError(
            f"A prompt of {length} tokens and {new} new ones do not fit into a context of "
            f"{model.config.context}.",
            fix="Shorten it, or ask for fewer.",
        )
