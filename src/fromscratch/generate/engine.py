"""Generation with a key/value cache: prefill the prompt, then one position per token.

Past the context length the window slides, in jumps: when it is full, its older half is dropped and
the rest is read again (`window_start`). Which tokens the model sees for the n-th is a function of n
alone, so cached and uncached generation agree there too, and the cost of a jump is spread over half
a context of tokens.

Three layers: `generate_tokens` gives ids (with log-probabilities where asked), `generate_text` text
in whole characters up to a stop string, `continue_text` and `generate` the plain pieces of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from fromscratch.checkpoint.bundle import ModelBundle
from fromscratch.foundation.errors import UserError
from fromscratch.generate.memory import Memory
from fromscratch.generate.ready import for_one_sequence
from fromscratch.generate.sampling import Sampler, SamplingOptions
from fromscratch.generate.slots import check_ids
from fromscratch.generate.text import TextStream
from fromscratch.generate.tokens import TokenOutput, with_logprobs
from fromscratch.model.gpt import GPT
from fromscratch.tokenizer.tokenizer import Tokenizer

FinishReason = Literal["stop", "length"]
"""Why a text ended: a stop id or stop string, or as many tokens as were asked for."""


@dataclass(frozen=True)
class TextPiece:
    """What one token added to a text.

    Attributes:
        text: Whole characters that are certain now; empty while something is held back.
        token: The token; None where only held-back text comes out at the end.
        finish: Why the text ends with this piece; None where it goes on.
    """

    text: str
    token: TokenOutput | None = None
    finish: FinishReason | None = None


def window_start(n_tokens: int, context: int) -> int:
    """The first of `n_tokens` tokens that the model sees when it predicts the next one."""
    if n_tokens <= context:
        return 0
    jump = max(1, context // 2)
    return -(-(n_tokens - context) // jump) * jump


@torch.inference_mode()
def generate_tokens(
    model: GPT,
    prompt: Sequence[int],
    *,
    max_new_tokens: int,
    options: SamplingOptions,
    stop_ids: Sequence[int] = (),
    slide: bool = True,
    top_logprobs: int | None = None,
    memory: Memory | None = None,
) -> Iterator[TokenOutput]:
    """Yields the tokens that continue a prompt, one by one.

    Args:
        model: Its mode is restored when the generation ends or is closed.
        prompt: At least one id; only the last `context` matter.
        max_new_tokens: How many to yield at most.
        options: How to choose them.
        stop_ids: Ids that end the text; they are not yielded.
        slide: Let the window slide past the context; else a longer sequence is refused.
        top_logprobs: Give each token's log-probability and those of so many of the likeliest.
        memory: What this model read before, of which the beginning of the prompt is not read again.

    Raises:
        UserError: An empty prompt, an id outside the vocabulary, or too long a sequence.
    """
    check_ids(model, prompt)
    check_bias(model, options)
    if not slide and len(prompt) + max_new_tokens > model.config.context:
        raise UserError(
            f"{len(prompt)} tokens of prompt and {max_new_tokens} new ones are a sequence longer "
            f"than the model's context of {model.config.context}.",
            fix="Ask for fewer new tokens, shorten the prompt, or let the window slide.",
        )
    was_training = model.training
    model.eval()
    sampler = Sampler(options, prompt)
    tokens = list(prompt)
    memory = memory or Memory(model)
    seen_from = window_start(len(tokens), model.config.context)
    fresh = memory.unread(tokens[seen_from:])
    try:
        with for_one_sequence(model):
            for _ in range(max_new_tokens):
                ids = torch.tensor([fresh], device=model.device)  # (1, T)
                hidden = model.hidden(ids, cache=memory.cache)[:, -1]  # (1, C)
                memory.has_read(fresh)
                logits = model.logits(hidden)[0]  # (P,)
                token = sampler.choose(logits)
                if token in stop_ids:
                    return
                yield with_logprobs(token, logits, top_logprobs)
                tokens.append(token)
                fresh = [token]
                start = window_start(len(tokens), model.config.context)
                if start != seen_from:
                    seen_from, fresh = start, memory.unread(tokens[start:])
    finally:
        model.train(was_training)


def check_bias(model: GPT, options: SamplingOptions) -> None:
    """Checks that a logit bias names tokens of the model.

    Raises:
        UserError: It does not.
    """
    strange = [token for token in options.logit_bias if token >= model.config.vocab_size]
    if strange:
        raise UserError(
            f"logit_bias names the token {strange[0]}, and the model has {model.config.vocab_size}."
        )


def generate_ids(
    model: GPT,
    prompt: Sequence[int],
    *,
    max_new_tokens: int,
    options: SamplingOptions,
    stop_ids: Sequence[int] = (),
    slide: bool = True,
) -> Iterator[int]:
    """The ids of `generate_tokens`."""
    outputs = generate_tokens(
        model,
        prompt,
        max_new_tokens=max_new_tokens,
        options=options,
        stop_ids=stop_ids,
        slide=slide,
    )
    return (output.id for output in outputs)


def generate_text(
    model: GPT,
    tokenizer: Tokenizer,
    prompt: Sequence[int],
    *,
    max_new_tokens: int,
    options: SamplingOptions,
    stop: Sequence[str] = (),
    stop_ids: Sequence[int] | None = None,
    slide: bool = True,
    top_logprobs: int | None = None,
    memory: Memory | None = None,
) -> Iterator[TextPiece]:
    """Yields a text that continues a prompt, a piece a token; the last piece says why it ends.

    Args:
        model: As for `generate_tokens`, and so are those not named here.
        tokenizer: Of the model.
        prompt: Ids; an empty one starts a document.
        max_new_tokens: At most.
        options: How to choose tokens.
        stop: Texts that end the text; they are not in it.
        stop_ids: Ids that end it; the end of a document by default.
        slide: Whether the window slides past the context.
        top_logprobs: Of each token.
        memory: What the model read before.
    """
    stream = TextStream(tokenizer, stop)
    n_tokens = 0
    outputs = generate_tokens(
        model,
        prompt or [tokenizer.eot_id],
        max_new_tokens=max_new_tokens,
        options=options,
        stop_ids=(tokenizer.eot_id,) if stop_ids is None else stop_ids,
        slide=slide,
        top_logprobs=top_logprobs,
        memory=memory,
    )
    for output in outputs:
        n_tokens += 1
        text = stream.push(output.id)
        yield TextPiece(text, output, "stop" if stream.stopped else None)
        if stream.stopped:
            return
    yield TextPiece(stream.finish(), None, "length" if n_tokens == max_new_tokens else "stop")


def continue_text(
    model: GPT,
    tokenizer: Tokenizer,
    prompt: str,
    *,
    max_new_tokens: int,
    options: SamplingOptions,
    stop: Sequence[str] = (),
    slide: bool = True,
) -> Iterator[str]:
    """Yields the text that continues `prompt`, in whole characters, up to end-of-text or a stop.

    An empty prompt starts a document.
    """
    pieces = generate_text(
        model,
        tokenizer,
        tokenizer.encode(prompt),
        max_new_tokens=max_new_tokens,
        options=options,
        stop=stop,
        slide=slide,
    )
    return (piece.text for piece in pieces if piece.text)


def generate(
    bundle: ModelBundle,
    prompt: str,
    *,
    max_new_tokens: int,
    options: SamplingOptions,
    stop: Sequence[str] = (),
    slide: bool = True,
) -> Iterator[str]:
    """`continue_text` for a model that was loaded from a folder."""
    return continue_text(
        bundle.model,
        bundle.tokenizer,
        prompt,
        max_new_tokens=max_new_tokens,
        options=options,
        stop=stop,
        slide=slide,
    )
