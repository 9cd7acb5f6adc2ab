"""Generation with a key/value cache: prefill the prompt, then one position per token.

Past the context length the window slides, in jumps: when it is full, its older half is dropped and
the rest is read again (`window_start`). Which tokens the model sees for the n-th is a function of n
alone, so cached and uncached generation agree there too, and the cost of a jump is spread over half
a context of tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from fromscratch.checkpoint.bundle import ModelBundle
from fromscratch.foundation.errors import UserError
from fromscratch.generate.sampling import SamplingOptions, next_token
from fromscratch.model.gpt import GPT
from fromscratch.model.kv_cache import KVCache
from fromscratch.tokenizer.tokenizer import Tokenizer


def window_start(n_tokens: int, context: int) -> int:
    """The first of `n_tokens` tokens that the model sees when it predicts the next one."""
    if n_tokens <= context:
        return 0
    jump = max(1, context // 2)
    return -(-(n_tokens - context) // jump) * jump


@torch.inference_mode()
def generate_ids(
    model: GPT,
    prompt: Sequence[int],
    *,
    max_new_tokens: int,
    options: SamplingOptions,
    stop_ids: Sequence[int] = (),
    slide: bool = True,
) -> Iterator[int]:
    """Yields token ids that continue the prompt, one by one.

    Args:
        model: Its mode is restored when the generation ends or is closed.
        prompt: At least one id; only the last `context` matter.
        max_new_tokens: How many ids to yield at most.
        options: How to choose them.
        stop_ids: Ids that end the text; they are not yielded.
        slide: Let the window slide past the context; else a longer sequence is refused.

    Raises:
        UserError: An empty prompt, an id outside the vocabulary, or too long a sequence.
    """
    if not prompt:
        raise UserError("Generation needs at least one token to start from.")
    if not all(0 <= i < model.config.vocab_size for i in prompt):
        raise UserError(
            f"The prompt has a token id outside the model's vocabulary of "
            f"{model.config.vocab_size}: it was made by another tokenizer."
        )
    if not slide and len(prompt) + max_new_tokens > model.config.context:
        raise UserError(
            f"{len(prompt)} tokens of prompt and {max_new_tokens} new ones are a sequence longer "
            f"than the model's context of {model.config.context}.",
            fix="Ask for fewer new tokens, shorten the prompt, or let the window slide.",
        )
    was_training = model.training
    model.eval()
    generator = torch.Generator().manual_seed(options.seed)
    cache = KVCache(model.config, batch=1, device=model.device, dtype=model.embed.weight.dtype)
    tokens = list(prompt)
    seen_from = window_start(len(tokens), model.config.context)
    fresh = tokens[seen_from:]
    try:
        for _ in range(max_new_tokens):
            ids = torch.tensor([fresh], device=model.device)  # (1, T)
            hidden = model.hidden(ids, cache=cache)[:, -1]  # (1, C)
            token = int(next_token(model.logits(hidden), options, generator))
            if token in stop_ids:
                return
            yield token
            tokens.append(token)
            fresh = [token]
            start = window_start(len(tokens), model.config.context)
            if start != seen_from:
                seen_from, fresh = start, tokens[start:]
                cache.reset()
    finally:
        model.train(was_training)


def continue_text(
    model: GPT,
    tokenizer: Tokenizer,
    prompt: str,
    *,
    max_new_tokens: int,
    options: SamplingOptions,
    slide: bool = True,
) -> Iterator[str]:
    """Yields the text that continues `prompt`, in whole characters, up to end-of-text.

    An empty prompt starts a document.
    """
    ids = tokenizer.encode(prompt) or [tokenizer.eot_id]
    new = generate_ids(
        model,
        ids,
        max_new_tokens=max_new_tokens,
        options=options,
        stop_ids=(tokenizer.eot_id,),
        slide=slide,
    )
    return tokenizer.decode_stream(new)


def generate(
    bundle: ModelBundle,
    prompt: str,
    *,
    max_new_tokens: int,
    options: SamplingOptions,
    slide: bool = True,
) -> Iterator[str]:
    """`continue_text` for a model that was loaded from a folder."""
    return continue_text(
        bundle.model,
        bundle.tokenizer,
        prompt,
        max_new_tokens=max_new_tokens,
        options=options,
        slide=slide,
    )
