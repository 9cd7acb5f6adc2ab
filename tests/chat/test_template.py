"""The Alpaca prompt character by character, and what holds for every conversation."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fromscratch.chat.conversations import Message
from fromscratch.chat.rendering import render_text as render
from fromscratch.chat.template import template_named
from fromscratch.foundation.errors import UserError

ALPACA = template_named("alpaca")


def test_with_an_input() -> None:
    messages = (Message("user", "Add them.", context="1 and 1"), Message("assistant", "2"))
    assert render(ALPACA, messages) == (
        "Below is an instruction that describes a task, paired with an input that provides further "
        "context. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nAdd them.\n\n### Input:\n1 and 1\n\n### Response:\n2"
    )


def test_without_an_input() -> None:
    messages = (Message("user", "Name a number."), Message("assistant", "2"))
    assert render(ALPACA, messages) == (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nName a number.\n\n### Response:\n2"
    )


def test_several_turns_with_a_system_text_first() -> None:
    messages = (
        Message("system", "Be brief."),
        Message("user", "A?"),
        Message("assistant", "B."),
        Message("user", "C?", context="c"),
        Message("assistant", "D."),
    )
    assert render(ALPACA, messages) == (
        "Be brief.\n\n### Instruction:\nA?\n\n### Response:\nB."
        "\n\n### Instruction:\nC?\n\n### Input:\nc\n\n### Response:\nD."
    )


turns = st.lists(
    st.builds(Message, st.sampled_from(["user", "assistant"]), st.text(max_size=20)), min_size=1
)


@given(turns)
def test_what_is_learned_is_what_the_assistant_says_and_nothing_else(messages: list[Message]):
    pieces = list(ALPACA.pieces(messages))
    said = [m.content for m in messages if m.role == "assistant"]
    assert [p.text for p in pieces if p.supervised and not p.special] == said
    assert render(ALPACA, messages) == "".join(p.text for p in pieces if not p.special)


def test_a_name_that_is_nearly_right() -> None:
    with pytest.raises(UserError, match=r'"alpac".*Did you mean "alpaca".*Known: .*alpaca'):
        template_named("alpac")
