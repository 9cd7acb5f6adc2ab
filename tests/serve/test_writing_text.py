"""What comes out of a job: the text of its tokens, in whole characters, and their places."""

from __future__ import annotations

from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fromscratch.generate.sampling import SamplingOptions
from fromscratch.generate.tokens import TokenOutput
from fromscratch.serve.jobs import Event, Job, Mailbox, Order, Placed, Written
from fromscratch.tokenizer.build import bytes_tokenizer
from fromscratch.tokenizer.tokenizer import Tokenizer

EOT = 256


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return bytes_tokenizer()


def spoken(
    tokenizer: Tokenizer, ids: list[int], stops: tuple[str, ...], most: int
) -> tuple[list[str], list[Placed], str | None]:
    """Lets a job take the ids: its pieces of text, its tokens, what ended it."""
    order = Order((1,), most, SamplingOptions(), frozenset({EOT}), stops, bool(stops), 0)
    job = Job(order, 0, cast(Mailbox, None), begun=0.0, deadline=1.0)
    job.start(tokenizer)
    events: list[Event] = []
    ended = None
    for i in ids:
        ended = job.take(TokenOutput(i, -1.0), events.append)
        if ended:
            break
    else:
        job.stop_here(events.append)
    written = [e for e in events if isinstance(e, Written)]
    return [e.text for e in written], [p for e in written for p in e.tokens], ended


@given(
    st.one_of(
        st.text(max_size=30).map(lambda text: list(text.encode("utf-8", "replace"))),
        st.lists(st.integers(0, 255), max_size=30),
    ),
    st.lists(st.text("ab€", min_size=1, max_size=3), max_size=2),
    st.integers(1, 40),
    st.booleans(),
)
def test_pieces_are_the_text_up_to_the_first_stop(
    ids: list[int], stops: list[str], most: int, ends: bool
) -> None:
    tokenizer = bytes_tokenizer()
    pieces, tokens, ended = spoken(tokenizer, [*ids, *([EOT] if ends else [])], tuple(stops), most)
    whole = bytes(ids[:most]).decode("utf-8", "replace")
    cuts = [whole.find(stop) for stop in stops if stop in whole]
    text = "".join(pieces)
    if ended == "stop":
        assert text == whole[: len(text)]
        assert any(whole[len(text) :].startswith(stop) for stop in stops)
        assert not any(stop in text for stop in stops)
    else:
        assert not cuts
        assert text == whole
        assert ended == ("max_tokens" if len(ids) >= most else "end_of_text" if ends else None)
    # Each token once, in order, where its character is, and none beyond the text.
    assert [p.token.id for p in tokens] == ids[: len(tokens)]
    for n, placed in enumerate(tokens):
        before = bytes(ids[:n]).decode("utf-8", "replace")
        assert placed.offset <= len(before)

    if ended != "stop":
        assert len(tokens) == min(len(ids), most)
    elif tokens:
        assert tokens[-1].offset < max(len(text), 1)
