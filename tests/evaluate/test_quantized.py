"""What quantising costs, against the loss read off full forward passes."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from fromscratch.checkpoint.bundle import ModelBundle
from fromscratch.evaluate.quantized import cost_of_quantizing
from fromscratch.model import int8
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.tokenizer.build import bytes_tokenizer

pytestmark = pytest.mark.skipif(not int8.is_supported(), reason="torch has no FBGEMM here")


@torch.no_grad()
def bits_per_byte(model: GPT, text: str) -> float:
    """Of a text that fits into the context, between two end-of-text ids."""
    ids = torch.tensor([256, *text.encode(), 256])
    losses = torch.nn.functional.cross_entropy(model(ids[None, :-1])[0].double(), ids[1:])
    return losses.item() * (len(ids) - 1) / math.log(2) / len(text.encode())


@pytest.mark.parametrize("family", ["gpt2", "modern"])
def test_both_numbers_are_those_of_the_models(family: str):
    tokenizer, text = bytes_tokenizer(), "Ein Täxt, so short that it is one window."
    config = ModelConfig(
        family=family, n_layer=2, n_head=2, d_model=32, context=64, padded_vocab=288,
        vocab_size=tokenizer.vocab_size, init="normal", init_std=0.2,
    )  # fmt: skip
    bundle = ModelBundle(GPT(config, seed=1).eval(), tokenizer, Path(), "")
    before = bits_per_byte(bundle.model, text)
    cost = cost_of_quantizing(bundle, [text])
    assert bundle.model.int8_head is not None
    assert cost.before == pytest.approx(before, abs=1e-5)
    assert cost.after == pytest.approx(bits_per_byte(bundle.model, text), abs=1e-5)
    assert cost.added == cost.after - cost.before
    assert 0 < abs(cost.added) < 0.2
