"""Windows: every target counts once, behind as much text as the protocol promises."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fromscratch.data.batches import IGNORE
from fromscratch.evaluate import text_windows
from fromscratch.evaluate.text_windows import Protocol, batch_windows, cut_windows

EOT = 0


@st.composite
def texts(draw: st.DrawFn) -> tuple[list[np.ndarray], Protocol, int]:
    lengths = draw(st.lists(st.integers(0, 40), min_size=1, max_size=12))
    context = draw(st.integers(1, 12))
    protocol = Protocol(context, draw(st.integers(1, context)), draw(st.booleans()))
    next_id, documents = 1, []
    for length in lengths:  # every token is its own, so that none can stand for another
        documents.append(np.append(np.arange(next_id, next_id + length), EOT))
        next_id += length
    return documents, protocol, draw(st.integers(1, 5))


@given(texts())
def test_every_target_counts_once_with_the_text_before_it(case) -> None:
    documents, protocol, batch_size = case
    cut = list(cut_windows(enumerate(documents), protocol, EOT))
    streams = documents if protocol.separate else [np.concatenate(documents)]
    owners = [np.full(len(d), i) for i, d in enumerate(documents)]
    owners = owners if protocol.separate else [np.concatenate(owners)]
    # What the definition says, target by target.
    wanted = []
    for stream, owner in zip(streams, owners, strict=True):
        whole = np.append([EOT], stream)
        for i, target in enumerate(stream):
            number = max(0, -(-(i + 1 - protocol.context) // protocol.stride))  # its first window
            start = number * protocol.stride
            wanted.append((owner[i], target, whole[start : i + 1].tolist()))
    found = []
    for window in cut:
        assert len(window.tokens) == len(window.owner) + 1 <= protocol.context + 1
        for i in range(window.skip, len(window.owner)):
            found.append((window.owner[i], window.tokens[i + 1], window.tokens[: i + 1].tolist()))
    assert found == wanted
    overlap = protocol.context - protocol.stride
    for window in cut:
        assert window.skip in (0, overlap)
    # And batches hold the same windows, filled up on the right alone.
    rows = []
    for batch in batch_windows(iter(cut), protocol, batch_size, EOT):
        assert batch.ids.numel() <= max(batch_size * protocol.context, batch.ids.shape[1])
        for ids, targets, owner in zip(batch.ids, batch.targets, batch.owner, strict=True):
            for i in np.flatnonzero(targets.numpy() != IGNORE):
                rows.append((owner[i], int(targets[i]), ids[: i + 1].tolist()))
    assert sorted(rows) == sorted(wanted)


def test_a_long_stream_leaves_in_pieces(monkeypatch) -> None:
    """The same windows, however seldom they are cut: memory is what differs."""
    documents = [np.append(np.arange(1, 30) + 100 * i, EOT) for i in range(40)]
    protocol = Protocol(16, 5)
    whole = list(cut_windows(enumerate(documents), protocol, EOT))
    monkeypatch.setattr(text_windows, "_STREAM_TOKENS", 20)
    drawn = []

    def counted():
        for number, ids in enumerate(documents):
            drawn.append(number)
            yield number, ids

    coming = cut_windows(counted(), protocol, EOT)
    first = next(coming)
    assert len(drawn) == 1
    for one, other in zip(whole, [first, *coming], strict=True):
        assert one.skip == other.skip
        assert np.array_equal(one.tokens, other.tokens)
        assert np.array_equal(one.owner, other.owner)


def test_the_protocol_in_words() -> None:
    assert str(Protocol(1024, 1024)) == (
        "windows of 1,024 tokens without overlap; documents one after the other with end-of-text "
        "between"
    )
    assert "its last 512 targets" in str(Protocol(1024, 512, True))
