"""Of a rendered preference the answers are learned, and nothing that was said before."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fromscratch.chat.conversations import Message
from fromscratch.chat.preference_rendering import render_pair
from fromscratch.chat.preferences import Preference
from fromscratch.chat.rendering import Rendered, render_ids
from fromscratch.chat.template import template_named, template_names
from fromscratch.tokenizer.special import with_special_tokens
from fromscratch.tokenizer.tokenizer import Tokenizer

WORDS = st.text(st.sampled_from("ab \n<|#é猫"), max_size=8)


@pytest.fixture(scope="module")
def tokenizer(gpt2: Tokenizer) -> Tokenizer:
    names = {token for name in template_names() for token in template_named(name).special_tokens}
    return with_special_tokens(gpt2, sorted(names))


@given(
    earlier=st.lists(st.tuples(WORDS, WORDS), max_size=2),
    question=WORDS,
    answers=st.tuples(WORDS, WORDS),
    name=st.sampled_from(template_names()),
)
def test_only_the_answers_are_learned(
    tokenizer: Tokenizer,
    earlier: list[tuple[str, str]],
    question: str,
    answers: tuple[str, str],
    name: str,
) -> None:
    template = template_named(name)
    turns = [
        m for asked, said in earlier for m in (Message("user", asked), Message("assistant", said))
    ]
    prompt = (*turns, Message("user", question))
    both = [(Message("assistant", answer),) for answer in answers]
    sides = render_pair(template, tokenizer, Preference(prompt, *both))
    for rendered, answer in zip(sides, both, strict=True):
        # The ids are the renderer's for the whole conversation; the mask is its mask of a
        # conversation in which nobody has answered before, counted from the end.
        whole = render_ids(template, tokenizer, (*prompt, *answer))
        assert rendered.ids == whole.ids
        alone = render_ids(template, tokenizer, (prompt[-1], *answer))
        assert sum(rendered.supervised) == sum(alone.supervised)
        assert _learned(rendered) == _learned(alone)
        assert _learned(whole)[-len(_learned(rendered)) :] == _learned(rendered)
        end = tokenizer.special_ids[template.end_of_turn]
        assert _learned(rendered)[-1] == end


def _learned(rendered: Rendered) -> list[int]:
    return [i for i, said in zip(rendered.ids, rendered.supervised, strict=True) if said]
