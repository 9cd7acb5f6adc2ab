"""Real models whose words are known: what they say next depends on how long the text is.

Their blocks add nothing and tokens have no embedding, so a position's learned vector goes straight
to the head, which holds the token that is to follow it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from fromscratch.chat.conversations import Message
from fromscratch.chat.rendering import prompt_ids
from fromscratch.chat.template import template_named
from fromscratch.checkpoint.bundle import save_model
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.tokenizer.build import bytes_tokenizer
from fromscratch.tokenizer.special import with_special_tokens

TEMPLATE = template_named("default")
TOKENIZER = with_special_tokens(bytes_tokenizer(), TEMPLATE.special_tokens)
END = TOKENIZER.special_ids["<|end|>"]


def said_after(cycle: Sequence[int], n_prompt: int, limit: int = 10_000) -> str:
    """What a model of that cycle says after so many tokens, greedily."""
    new: list[int] = []
    while len(new) < limit and (token := cycle[(n_prompt + len(new)) % len(cycle)]) != END:
        new.append(token)
    return TOKENIZER.decode(new)


def length_of(*messages: Message) -> int:
    """Tokens that a chat model reads."""
    return len(prompt_ids(TEMPLATE, TOKENIZER, messages))


def write_model(folder: Path, cycle: Sequence[int], *, context: int, chats: bool) -> None:
    """Writes a model that says the tokens of a cycle over and over."""
    folder.mkdir()
    tokenizer = TOKENIZER if chats else bytes_tokenizer()
    distinct = sorted(set(cycle))
    width = 64
    assert len(distinct) < width
    config = ModelConfig(
        family="gpt2", n_layer=1, n_head=1, d_model=width, context=context,
        vocab_size=tokenizer.vocab_size, tie_embeddings=False,
    )  # fmt: skip
    model = GPT(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
        assert model.positions is not None
        assert model.head is not None
        for place, token in enumerate(distinct):
            model.head.weight[token, place] = 1.0
        for position in range(context):
            token = cycle[(position + 1) % len(cycle)]
            model.positions.weight[position, distinct.index(token)] = 1.0
    save_model(folder, model, tokenizer, TEMPLATE if chats else None)
