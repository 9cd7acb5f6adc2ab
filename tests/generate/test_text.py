"""What comes out of a text stream, against the whole text cut at its first stop string."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fromscratch.foundation.errors import UserError
from fromscratch.generate.text import TextStream, text_until_stopped
from fromscratch.tokenizer.build import bytes_tokenizer
from fromscratch.tokenizer.tokenizer import Tokenizer

BYTES = bytes_tokenizer()
ALPHABET = "ab.é日😀\n"


def pushed(tokenizer: Tokenizer, ids: list[int], stop: tuple[str, ...]) -> tuple[list[str], bool]:
    """Each push's text, then what `finish` gives."""
    stream = TextStream(tokenizer, stop)
    pieces = []
    for token in ids:
        pieces.append(stream.push(token))
        if stream.stopped:
            break
    return [*pieces, stream.finish()], stream.stopped


def reference(text: str, stop: tuple[str, ...]) -> str:
    """The text up to the stop string that is whole first."""
    for end in range(len(text) + 1):
        starts = [end - len(s) for s in stop if text[:end].endswith(s)]
        if starts:
            return text[: min(starts)]
    return text


@given(
    text=st.text(ALPHABET, max_size=30),
    stop=st.lists(st.text(ALPHABET, min_size=1, max_size=4), max_size=3).map(tuple),
)
def test_the_text_ends_before_the_first_stop_string(text, stop):
    pieces, stopped = pushed(BYTES, BYTES.encode(text), stop)
    assert "".join(pieces) == reference(text, stop)
    assert stopped == any(s in text for s in stop)


@given(
    text=st.text(ALPHABET, max_size=30),
    stop=st.lists(st.text(ALPHABET, min_size=1, max_size=4), max_size=3).map(tuple),
)
def test_only_what_may_become_a_stop_string_is_held_back(text, stop):
    """After each whole character everything is out but the longest beginning of a stop string."""
    stream, out = TextStream(BYTES, stop), ""
    for number, character in enumerate(text, start=1):
        out += "".join(stream.push(token) for token in BYTES.encode(character))
        if stream.stopped:
            return
        so_far = text[:number]
        held = so_far[len(out) :]
        assert so_far.startswith(out)
        beginnings = [s[:n] for s in stop for n in range(1, len(s)) if so_far.endswith(s[:n])]
        assert held == max(beginnings, key=len, default="")


def test_stop_strings_across_the_borders_of_real_tokens(gpt2):
    text = "One two\n\nUser: naïve 日本語 text. And then😀more"
    ids = gpt2.encode(text)
    for start in range(len(text)):
        for size in (1, 2, 5, 9):
            stop = text[start : start + size]
            pieces, stopped = pushed(gpt2, ids, (stop,))
            assert stopped
            assert "".join(pieces) == text[: text.index(stop)]


def test_a_stop_string_that_never_comes_whole_comes_out_at_the_end():
    pieces, stopped = pushed(BYTES, BYTES.encode("so: User"), ("User:",))
    assert "".join(pieces) == "so: User"
    assert pieces[-1] == "User"
    assert not stopped


def test_half_a_character_at_the_end_is_said():
    pieces, _ = pushed(BYTES, BYTES.encode("a😀")[:-1], ())
    assert pieces == ["a", "", "", "", "\ufffd"]


def test_an_empty_stop_string_is_refused():
    with pytest.raises(UserError, match="empty"):
        TextStream(BYTES, ("a", ""))


def test_an_answer_ends_where_the_next_instruction_would_begin():
    ids = iter(BYTES.encode("Paris, \u00e9.\n\n### Instruction:\nMore"))
    text = text_until_stopped(ids, TextStream(BYTES, ("\n\n### Instruction:\n",)))
    assert "".join(text) == "Paris, \u00e9."
    assert BYTES.decode(list(ids)) == "More", "nothing is drawn beyond it"
    rest = text_until_stopped(BYTES.encode("A\n\n##"), TextStream(BYTES, ("\n\n### X",)))
    assert "".join(rest) == "A\n\n##"
