"""Sequences that come and go against each of them alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fromscratch.foundation.errors import UserError
from fromscratch.generate.engine import generate_ids
from fromscratch.generate.sampling import Sampler, SamplingOptions
from fromscratch.generate.slots import Slots
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT

CONTEXT, VOCAB = 24, 23
SHAPE = {"n_layer": 2, "n_head": 2, "d_model": 16, "context": CONTEXT, "vocab_size": VOCAB}
KINDS = [
    {"family": "gpt2"},
    {"family": "gpt2", "positions": "sinusoidal", "norm_placement": "post"},
    {"family": "modern"},
    {"family": "modern", "n_kv_head": 1, "tie_embeddings": True},
]
MODELS = [
    GPT(ModelConfig(**(SHAPE | kind), padded_vocab=32, init="normal", init_std=0.4), seed=1).eval()
    for kind in KINDS
]


def alone(model, prompt, n_new, options):
    return list(generate_ids(model, prompt, max_new_tokens=n_new, options=options))


@settings(max_examples=40)
@given(data=st.data())
def test_any_order_of_coming_and_going_gives_what_each_gives_alone(data):
    model = data.draw(st.sampled_from(MODELS))
    n_slots, chunk = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 9))
    jobs = [
        (
            data.draw(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=14)),
            data.draw(st.integers(1, 10)),
            SamplingOptions(data.draw(st.sampled_from([0.0, 1.0])), 0, 1.0, number),
        )
        for number in range(data.draw(st.integers(1, 6)))
    ]
    slots = Slots(model, n_slots, chunk=chunk)
    waiting, here, done = list(range(len(jobs)))[::-1], {}, {}
    while waiting or here:
        # Not all that could come comes: each step with another crowd.
        while waiting and slots.n_free and (not here or data.draw(st.booleans())):
            number = waiting.pop()
            prompt, _, options = jobs[number]
            here[slots.admit(prompt)] = (number, Sampler(options), [])
        for slot, logits in slots.step():
            number, sampler, new = here[slot]
            new.append(sampler.choose(logits))
            if len(new) == jobs[number][1]:
                done[number] = new
                slots.free(slot)
                del here[slot]
            else:
                slots.feed(slot, new[-1])
    assert slots.n_free == n_slots
    for number, (prompt, n_new, options) in enumerate(jobs):
        assert done[number] == alone(model, prompt, n_new, options)


@pytest.mark.parametrize("model", MODELS, ids=[str(kind) for kind in KINDS])
@torch.no_grad()
def test_a_slots_logits_are_those_of_a_full_forward_pass(model):
    slots = Slots(model, 3, chunk=4)
    texts = {slots.admit(text): text for text in ([1, 2, 3, 4, 5, 6, 7], [8])}
    for step in range(8):
        if step == 3:
            texts[slots.admit([9, 10])] = [9, 10]
        for slot, logits in slots.step():
            expected = model(torch.tensor([texts[slot]]))[0, -1]
            torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)
            texts[slot].append((5 * step + slot) % VOCAB)
            slots.feed(slot, texts[slot][-1])
    assert len(texts) == 3
    assert {slot: slots.length(slot) for slot in texts} == {s: len(t) for s, t in texts.items()}


def test_a_long_prompt_does_not_hold_up_the_others():
    slots = Slots(MODELS[0], 2, chunk=3)
    short = slots.admit([1])
    long = slots.admit(list(range(10)))
    for _ in range(3):  # 3 of its 10 tokens each time
        assert [slot for slot, _ in slots.step()] == [short]
        slots.feed(short, 2)
    ready = slots.step()
    assert set(ready.slots) == {short, long}
    assert slots.idle
    assert len(slots.step()) == 0


def test_a_copy_goes_on_like_its_original():
    slots = Slots(MODELS[2], 3)
    first = slots.admit([3, 1, 4, 1, 5])
    [(_, logits)] = slots.step()
    second = slots.fork(first)
    token = int(logits.argmax())
    for slot, fed in ((first, token), (second, (token + 1) % VOCAB)):
        slots.feed(slot, fed)
    ready = dict(slots.step())
    for slot, fed in ((first, token), (second, (token + 1) % VOCAB)):
        expected = MODELS[2](torch.tensor([[3, 1, 4, 1, 5, fed]]))[0, -1].detach()
        torch.testing.assert_close(ready[slot], expected, atol=1e-5, rtol=1e-5)


def test_a_slot_that_was_freed_in_the_middle_of_its_prompt_is_as_new():
    slots = Slots(MODELS[1], 1, chunk=2)
    slot = slots.admit([1, 2, 3, 4, 5])
    assert len(slots.step()) == 0
    slots.free(slot)
    assert slots.n_free == 1
    again = slots.admit([6])
    [(_, logits)] = slots.step()
    assert again == slot
    expected = MODELS[1](torch.tensor([[6]]))[0, -1].detach()
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


def test_the_capacity_holds_and_memory_is_used_again():
    slots = Slots(MODELS[0], 2, capacity=6)
    with pytest.raises(UserError, match="7 tokens is longer than the 6"):
        slots.admit([1] * 7)
    slot = slots.admit([1] * 5)
    slots.step()
    assert slots.room(slot) == 1
    slots.feed(slot, 2)
    slots.step()
    with pytest.raises(AssertionError, match="full"):
        slots.feed(slot, 2)
    memory = {slots._caches[slot].keys.data_ptr()}
    for _ in range(3):
        slots.free(slot)
        slot = slots.admit([1])
        memory.add(slots._caches[slot].keys.data_ptr())
    assert len(memory) == 1


@pytest.mark.parametrize("ids", [[], [VOCAB], [-1]])
def test_ids_that_cannot_be_are_refused_and_take_no_slot(ids):
    slots = Slots(MODELS[0], 1)
    with pytest.raises(UserError):
        slots.admit(ids)
    assert slots.n_free == 1


def test_steps_have_few_different_numbers_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """And each goes on with a prompt, if there is one, whatever else runs."""
    model, rows = MODELS[0], []
    hidden = model.hidden

    def counted(ids: torch.Tensor, **more: object) -> torch.Tensor:
        rows.append(ids.shape[1])
        return hidden(ids, **more)

    monkeypatch.setattr(model, "hidden", counted)
    slots = Slots(model, 24)
    for n in range(1, 25):
        slots.admit([n % VOCAB] * (1 if n < 20 else model.config.context - 24 + n))
    left, steps = 24, 0
    while left:
        ready = slots.step()
        left -= len(ready)
        steps += 1
        assert steps < 100
    assert all(n <= 16 or n & (n - 1) == 0 or n == 20 for n in rows), rows
