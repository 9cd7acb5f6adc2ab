"""How much of each text a model has read: in its run, and in those that it was started from (R03).

A text is known by its hash (`TrainingSource.texts`), so it is recognised under another name, in
another mixture, with another tokenizer or context. What is kept is a plain mapping of hashes to
epochs, which travels in every checkpoint.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from fromscratch.data.batches import TrainingData
from fromscratch.data.skipping import Ranges


def read_more(
    read: Mapping[str, float], data: TrainingData, first: int, after: int, skipped: Ranges = ()
) -> dict[str, float]:
    """What has been read once some further samples were trained on.

    Args:
        read: Epochs by text, before them.
        data: Theirs.
        first: The cursor before them.
        after: The cursor after them.
        skipped: Windows that are left out.
    """
    before, now = data.epochs(first, skipped), data.epochs(after, skipped)
    more = dict(read)
    for source in data.sources:
        for text in source.known_texts:
            more[text] = more.get(text, 0.0) + now[source.name] - before[source.name]
    return more


def read_before(read: Mapping[str, float], data: TrainingData) -> dict[str, float]:
    """The sources of which something has been read, by name, with the epochs of what most has."""
    epochs = {s.name: max(read.get(text, 0.0) for text in s.known_texts) for s in data.sources}
    return {name: value for name, value in epochs.items() if value > 0}


def read_again(
    read: Mapping[str, float],
    data: TrainingData,
    sample: int,
    skipped: Ranges = (),
    *,
    known: Container[str],
) -> dict[str, float]:
    """Of what has been read, that which a run that goes on with other data reads again.

    A source that was there before keeps its order, so nothing of it comes twice where the new
    shares put the run no further back in it than it was.

    Args:
        read: Epochs by text, so far.
        data: What the run goes on with.
        sample: From which sample on.
        skipped: Windows that are left out.
        known: Names of the sources that were there before.

    Returns:
        Epochs so far, by source.
    """
    now = data.epochs(sample, skipped)
    window = {s.name: 1.0 / len(s.windows) for s in data.sources}
    return {
        name: epochs
        for name, epochs in read_before(read, data).items()
        if name not in known or epochs > now[name] + window[name]
    }
