"""A real model whose words are known: what it says depends on the position alone.

Its blocks add nothing and tokens have no embedding, so a position's learned vector goes straight to
the head, which holds the byte that is to follow it.
"""

from __future__ import annotations

import torch

from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.tokenizer.build import bytes_tokenizer

END = bytes_tokenizer().eot_id
CONTEXT = 640


def scripted(*scripts: tuple[int, str], width: int = 128, noise: float = 0.0) -> GPT:
    """A model that says each text after prompts of so many bytes, then ends; `a` elsewhere.

    `noise` makes other weights of the same words.
    """
    config = ModelConfig(
        family="gpt2", n_layer=1, n_head=1, d_model=width, context=CONTEXT, vocab_size=257,
        tie_embeddings=False,
    )  # fmt: skip
    model = GPT(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
        assert model.positions is not None
        assert model.head is not None
        model.positions.weight[:, 0] = 1.0
        model.head.weight[ord("a"), 0] = 1.0 + noise
        place = 1
        for n_prompt, text in scripts:
            for offset, token in enumerate([*text.encode(), END]):
                model.positions.weight[n_prompt - 1 + offset] = 0.0
                model.positions.weight[n_prompt - 1 + offset, place] = 1.0
                model.head.weight[token, place] = 1.0 + noise
                place += 1
        assert place <= width
    return model.eval()
