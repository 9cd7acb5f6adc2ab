"""Small models for the tests of this folder."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from fromscratch.chat.template import template_named
from fromscratch.checkpoint.bundle import ModelBundle, with_template
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.tokenizer.build import train_bpe
from fromscratch.tokenizer.tokenizer import Tokenizer
from tests.random_weights import randomise

VOCAB = 300


@cache
def tokenizer(pattern: str = "gpt2") -> Tokenizer:
    text = "The cat sat on the mat 123 times; it's said: def f(x): return x + 1, caf\u00e9 {}. "
    made = train_bpe((text.format(i) for i in range(99)), vocab_size=VOCAB, pattern=pattern)
    assert made.vocab_size == VOCAB
    return made


def bundle(family: str = "modern", *, chat: str | None = None, **options: object) -> ModelBundle:
    shape = {"n_layer": 2, "n_head": 4, "d_model": 64, "context": 48, "vocab_size": VOCAB}
    model = GPT(ModelConfig(**(shape | {"family": family} | options))).eval()
    randomise(model)
    made = ModelBundle(model, tokenizer(), Path("made"), "0" * 64)
    return made if chat is None else with_template(made, template_named(chat))
