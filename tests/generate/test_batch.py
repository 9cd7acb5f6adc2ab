"""Prompts continued together against each continued alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fromscratch.foundation.errors import UserError
from fromscratch.generate.batch import Completion, Request, complete, generate_batch, samples_of
from fromscratch.generate.engine import generate_ids, generate_text
from fromscratch.generate.sampling import SamplingOptions
from fromscratch.model import few_rows
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.tokenizer.build import bytes_tokenizer

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


@pytest.mark.parametrize(
    ("prompts", "problem"), [([[]], "at least one"), ([[1], list(range(20))], "context of 24")]
)
def test_what_does_not_fit_is_refused(prompts: list[list[int]], problem: str):
    with pytest.raises(UserError, match=problem):
        generate_batch(
            MODELS["gpt2"], prompts, max_new_tokens=5, options=GREEDY,
            is_done=lambda number, ids: False,
        )  # fmt: skip


# --- requests of their own kind -------------------------------------------------------------------

BYTES = bytes_tokenizer()
SPEAKER = GPT(
    ModelConfig(
        family="modern", init="normal", init_std=0.4, padded_vocab=300,
        **(SHAPE | {"vocab_size": BYTES.vocab_size, "context": 40}),
    ),
    seed=2,
).eval()  # fmt: skip


def alone(request: Request) -> Completion:
    """Through the stream of one prompt."""
    pieces = list(
        generate_text(
            SPEAKER,
            BYTES,
            request.prompt,
            max_new_tokens=request.max_new_tokens,
            options=request.options,
            stop=request.stop,
            stop_ids=request.stop_ids,
            top_logprobs=request.top_logprobs,
            slide=False,
        )
    )
    text = "".join(piece.text for piece in pieces)
    tokens = tuple(piece.token for piece in pieces if piece.token is not None)
    finish = pieces[-1].finish
    assert finish is not None
    return Completion(text, tokens, finish)


@settings(max_examples=25)
@given(data=st.data(), n_slots=st.integers(1, 4))
def test_requests_of_any_kind_are_each_answered_as_if_alone(data, n_slots):
    requests = [
        Request(
            data.draw(st.lists(st.integers(0, 255), min_size=1, max_size=12)),
            data.draw(st.integers(1, 20)),
            SamplingOptions(
                temperature=data.draw(st.sampled_from([0.0, 0.7, 1.5])),
                top_k=data.draw(st.sampled_from([0, 5])),
                seed=data.draw(st.integers(0, 99)),
                repetition_penalty=data.draw(st.sampled_from([1.0, 1.3])),
            ),
            stop=data.draw(st.sampled_from([(), ("a",), ("é", "\x00")])),
            stop_ids=tuple(data.draw(st.lists(st.integers(0, 255), max_size=6))),
            top_logprobs=data.draw(st.sampled_from([None, 0, 2])),
        )
        for _ in range(data.draw(st.integers(1, 6)))
    ]
    ended: dict[int, Completion] = {}
    given = complete(SPEAKER, BYTES, requests, n_slots=n_slots, on_done=ended.__setitem__)
    assert [ended[number] for number in range(len(requests))] == given
    for request, together in zip(requests, given, strict=True):
        by_itself = alone(request)
        assert (together.text, together.finish) == (by_itself.text, by_itself.finish)
        assert [t.id for t in together.tokens] == [t.id for t in by_itself.tokens]
        for ours, theirs in zip(together.tokens, by_itself.tokens, strict=True):
            assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-4)


def test_samples_of_one_prompt_differ_and_the_first_is_the_prompts_own():
    request = Request([1, 2, 3], 12, SamplingOptions(1.0, 0, 1.0, 7))
    drawn = complete(SPEAKER, BYTES, samples_of(request, 4))
    assert drawn[0] == complete(SPEAKER, BYTES, [request])[0]
    assert len({tuple(t.id for t in one.tokens) for one in drawn}) == 4


def test_nothing_is_asked_for_and_nothing_is_given():
    assert complete(SPEAKER, BYTES, []) == []
    assert complete(SPEAKER, BYTES, [Request([1], 0, GREEDY)]) == [Completion("", (), "length")]
    assert generate_batch(
        SPEAKER, [[1]], max_new_tokens=0, options=GREEDY, is_done=lambda number, ids: True
    ) == [[]]


def test_a_model_in_training_is_neither_packed_nor_left_in_evaluation():
    model = GPT(ModelConfig(family="gpt2", **SHAPE), seed=1).train()
    four = {"max_new_tokens": 3, "options": GREEDY, "is_done": lambda number, ids: False}
    generate_batch(model, [[1], [2], [3], [4]], **four)
    assert model.training
    assert model.packed_head is None
    generate_batch(model.eval(), [[1], [2], [3], [4]], **four)
    assert (model.packed_head is not None) == few_rows.is_available("cpu")
