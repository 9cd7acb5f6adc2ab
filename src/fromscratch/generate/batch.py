"""Several prompts continued at once, each as if it were alone.

In: prompts of token ids, of any lengths. Out: what follows each. All sequences are equally long at
every moment, so none is padded: the cache begins with as many tokens as the shortest prompt has,
and the rest of a longer prompt is fed token by token while the shorter ones already go on. So
prompts of like length belong together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from fromscratch.foundation.errors import UserError
from fromscratch.generate.sampling import SamplingOptions, next_token
from fromscratch.model.gpt import GPT
from fromscratch.model.kv_cache import KVCache


@torch.inference_mode()
def generate_batch(
    model: GPT,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    options: SamplingOptions,
    is_done: Callable[[int, list[int]], bool],
) -> list[list[int]]:
    """Continues prompts.

    Args:
        model: Uncompiled; its mode is restored afterwards.
        prompts: At least one id each; with what is new they fit into the context.
        max_new_tokens: For each.
        options: How to choose; of one batch, with one generator.
        is_done: Given the number of a prompt and what follows it so far: whether that is all.

    Returns:
        The new ids of each prompt, in its place.

    Raises:
        UserError: An empty prompt, or a sequence longer than the context.
    """
    if not prompts or max_new_tokens < 1:
        return [[] for _ in prompts]
    longest, shortest = max(map(len, prompts)), min(map(len, prompts))
    context = model.config.context
    if shortest < 1 or longest + max_new_tokens > context:
        raise UserError(
            f"Prompts of {shortest} to {longest} tokens and {max_new_tokens} new ones do not fit "
            f"into a context of {context}.",
            fix="Every prompt needs a token to start from; shorten them, or ask for fewer.",
        )
    was_training = model.training
    model.eval()
    generator = torch.Generator().manual_seed(options.seed)
    cache = KVCache(
        model.config,
        len(prompts),
        capacity=longest + max_new_tokens,
        device=model.device,
        dtype=model.embed.weight.dtype,
    )
    new: list[list[int]] = [[] for _ in prompts]
    open_ones = set(range(len(prompts)))
    fresh = torch.tensor([list(p[:shortest]) for p in prompts], device=model.device)
    try:
        for length in range(shortest, longest + max_new_tokens):
            hidden = model.hidden(fresh, cache=cache)[:, -1]
            chosen = next_token(model.logits(hidden), options, generator).tolist()
            for number, prompt in enumerate(prompts):
                if length < len(prompt):
                    chosen[number] = prompt[length]
                elif number in open_ones:
                    new[number].append(chosen[number])
                    if len(new[number]) == max_new_tokens or is_done(number, new[number]):
                        open_ones.discard(number)
            if not open_ones:
                break
            fresh = torch.tensor(chosen, device=model.device)[:, None]
    finally:
        model.train(was_training)
    return new
