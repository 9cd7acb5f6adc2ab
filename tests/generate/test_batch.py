"""Prompts continued together against each continued alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fromscratch.foundation.errors import UserError
from fromscratch.generate.batch import generate_batch
from fromscratch.generate.engine import generate_ids
from fromscratch.generate.sampling import SamplingOptions
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT

CONTEXT, VOCAB = 24, 23
GREEDY = SamplingOptions(temperature=0.0)
SHAPE = {"n_layer": 2, "n_head": 2, "d_model": 16, "context": CONTEXT, "vocab_size": VOCAB}
MODELS = {
    family: GPT(
        ModelConfig(family=family, padded_vocab=32, init="normal", init_std=0.4, **SHAPE), seed=1
    ).eval()
    for family in ("gpt2", "modern")
}
PROMPT = st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=16)


@settings(max_examples=25)
@given(
    family=st.sampled_from(sorted(MODELS)),
    prompts=st.lists(PROMPT, min_size=1, max_size=5),
    n_new=st.integers(1, CONTEXT - 16),
    stop=st.integers(0, VOCAB - 1),
)
def test_each_is_continued_as_if_it_were_alone(family, prompts, n_new, stop):
    model = MODELS[family]

    def is_done(number: int, ids: list[int]) -> bool:
        return ids[-1] == stop + number

    together = generate_batch(model, prompts, max_new_tokens=n_new, options=GREEDY, is_done=is_done)
    for number, (prompt, new) in enumerate(zip(prompts, together, strict=True)):
        alone = list(generate_ids(model, prompt, max_new_tokens=n_new, options=GREEDY))
        ends = [i for i, token in enumerate(alone) if token == stop + number]
        assert new == (alone[: ends[0] + 1] if ends else alone)


def test_draws_differ_by_seed_and_stay_in_the_vocabulary():
    def draw(seed: int) -> list[list[int]]:
        options = SamplingOptions(1.0, 0, 1.0, seed)
        return generate_batch(
            MODELS["modern"], [[1], [2, 3]], max_new_tokens=9, options=options,
            is_done=lambda number, ids: False,
        )  # fmt: skip

    assert draw(1) == draw(1) != draw(2)
    assert all(0 <= token < VOCAB for new in draw(1) for token in new)


@pytest.mark.parametrize("prompts", [[[]], [[1], list(range(20))]])
def test_what_does_not_fit_is_refused(prompts: list[list[int]]):
    with pytest.raises(UserError, match="context of 24"):
        generate_batch(
            MODELS["gpt2"], prompts, max_new_tokens=5, options=GREEDY,
            is_done=lambda number, ids: False,
        )  # fmt: skip
