"""A conversation is not read again from its beginning, and its answers are the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fromscratch.generate.engine import generate_tokens
from fromscratch.generate.memory import Memory
from fromscratch.generate.sampling import SamplingOptions
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT


def random_model(family: str) -> GPT:
    config = ModelConfig(
        family=family, n_layer=2, n_head=2, d_model=16, context=32, vocab_size=7,
        init="normal", init_std=0.5,
    )  # fmt: skip
    return GPT(config, seed=4).eval()


MODELS = {family: random_model(family) for family in ("gpt2", "modern")}
PROMPTS = st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=40), min_size=1, max_size=5)


def written(model: GPT, prompt: list[int], **more: Any) -> list[int]:
    options = SamplingOptions(temperature=0)
    return [t.id for t in generate_tokens(model, prompt, max_new_tokens=9, options=options, **more)]


@settings(max_examples=20)
@given(PROMPTS, st.sampled_from(sorted(MODELS)), st.integers(0, 9))
def test_whatever_was_read_before_the_answer_is_the_same(
    prompts: list[list[int]], family: str, stopped_after: int
):
    model = MODELS[family]
    memory = Memory(model)
    for prompt in prompts:
        tokens = generate_tokens(
            model, prompt, max_new_tokens=9, options=SamplingOptions(0.0), memory=memory
        )
        for _ in zip(range(stopped_after), tokens, strict=False):
            pass
        tokens.close()
        assert written(model, prompt, memory=memory) == written(model, prompt)


@pytest.mark.parametrize("family", sorted(MODELS))
def test_what_was_read_is_not_read_again(family: str):
    model = MODELS[family]
    read: list[int] = []
    hook = model.embed.register_forward_hook(lambda module, given, out: read.append(out.shape[1]))
    memory = Memory(model)
    first = [1, 2, 3, 4, 5]
    answer = written(model, first, memory=memory)
    assert read == [5] + [1] * 8
    read.clear()
    written(model, [*first, *answer, 6, 1], memory=memory)
    assert read[0] == 3, "the answer's last token, which nothing was predicted from, and two more"
    read.clear()
    written(model, [*first, 6], memory=memory)
    assert read[0] == 1
    hook.remove()
    assert torch.equal(torch.tensor(answer), torch.tensor(written(model, first)))
