"""A model that has learned a few lines by heart, so that what it should say is known."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn import functional as F

from fromscratch.chat.conversations import Message
from fromscratch.chat.rendering import render_ids
from fromscratch.chat.template import template_named
from fromscratch.checkpoint.bundle import ModelBundle, save_model, with_template
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.tokenizer.build import bytes_tokenizer

GREETING = "Grüße! I am a parrot, and I say this."
LINES = {"Hello": GREETING, "Count": "one two three four five six seven eight nine ten"}
STORY = "Once upon a time there was a parrot who knew one story, and told it."
CONTEXT = 256


def parrot(folder: Path, *, steps: int = 150) -> ModelBundle:
    """Trains one, in a second or two, and writes it as a model folder."""
    config = ModelConfig(
        family="modern", n_layer=1, n_head=4, d_model=64, context=CONTEXT, vocab_size=257,
        padded_vocab=320,
    )  # fmt: skip
    base = ModelBundle(GPT(config, seed=1), bytes_tokenizer(), folder, "0" * 64)
    template = template_named("default")
    bundle = with_template(base, template)
    rows = [
        render_ids(template, bundle.tokenizer, [Message("user", k), Message("assistant", v)]).ids
        for k, v in LINES.items()
    ]
    eot = bundle.tokenizer.eot_id
    story = [*bundle.tokenizer.encode(STORY), eot]
    rows += [story, [eot, *story]]
    longest = max(map(len, rows))
    inputs = torch.tensor([row + [eot] * (longest - len(row)) for row in rows])
    targets = torch.tensor([row[1:] + [-100] * (longest + 1 - len(row)) for row in rows])
    optimizer = torch.optim.AdamW(bundle.model.parameters(), lr=5e-3)
    for _ in range(steps):
        logits = bundle.model(inputs)[..., : bundle.model.config.vocab_size]
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    folder.mkdir(parents=True, exist_ok=True)
    save_model(folder, bundle.model, bundle.tokenizer, template)
    assert loss < 0.05, loss
    return bundle


def endless(context: int = 8192) -> ModelBundle:
    """A base model with random weights and room for thousands of tokens."""
    config = ModelConfig(
        family="modern", n_layer=1, n_head=2, d_model=16, context=context, vocab_size=257,
        padded_vocab=320,
    )  # fmt: skip
    return ModelBundle(GPT(config, seed=1).eval(), bytes_tokenizer(), Path("base"), "0" * 64)
