"""How likely a model finds the ends of passages, many at a time.

In: groups of passages that begin alike (a question with each of its answers), each with the place
from which its tokens count. Out: the log-probability of that end, and whether the most likely token
was the right one throughout. Always true: the scores are those of each passage by itself, but for
rounding.

What makes it fast: the common beginning of a group goes through the network once, and its keys and
values are handed to every passage of the group; what is left is batched by length; logits are
computed where tokens count and nowhere else.

Shapes: R rows, T positions, P positions of a common beginning, C width, N tokens that count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from fromscratch.model.cross_entropy import CHUNK_BYTES, token_losses
from fromscratch.model.gpt import GPT
from fromscratch.model.kv_cache import KVCache

# Beginnings are cut to a multiple of this many tokens, so that many groups share one batch; what is
# cut off is computed with each passage.
_STEP = 8
_NO_TARGET = -100


@dataclass(frozen=True, slots=True)
class Passage:
    """Token ids, of which those from `start` on (at least 1) are to be predicted."""

    ids: list[int]
    start: int


@dataclass(frozen=True, slots=True)
class Score:
    """What a model makes of a passage.

    Attributes:
        logprob: Sum over the tokens that count, in nats; at most 0.
        n_tokens: How many they are.
        greedy: Whether each of them was the most likely one; False where that was not asked for.
    """

    logprob: float
    n_tokens: int
    greedy: bool = False


@dataclass(frozen=True, slots=True)
class _Row:
    """One sequence through the network: a passage, or a window of one that is too long."""

    inputs: list[int]
    targets: list[int]  # of the last len(targets) inputs
    group: int
    passage: int

    @property
    def free(self) -> int:
        """Inputs before the first one that has a target."""
        return len(self.inputs) - len(self.targets)


@dataclass(frozen=True, slots=True)
class _Group:
    """Rows of which the first `shared` inputs are the same."""

    rows: list[_Row]
    shared: int

    @property
    def tail(self) -> int:
        """Positions after the shared ones in its longest row."""
        return max(len(row.inputs) for row in self.rows) - self.shared


def windows(passage: Passage, context: int) -> Iterator[Passage]:
    """The passage as the model can see it: cut on the left, as little as its context allows.

    One window, unless more tokens count than the context holds: then several, in which each of
    them counts once. The inputs of a window are all its ids but the last, at most `context`.
    """
    start = passage.start
    while start < len(passage.ids):
        end = min(len(passage.ids), start + context)
        first = max(0, end - context - 1)
        yield Passage(passage.ids[first:end], start - first)
        start = end


@torch.inference_mode()
def score_passages(
    model: GPT,
    groups: Sequence[Sequence[Passage]],
    *,
    batch_tokens: int,
    greedy: bool = False,
    on_passages: Callable[[int], None] = lambda n: None,
) -> list[list[Score]]:
    """Scores passages.

    Args:
        model: Uncompiled; its mode is restored afterwards.
        groups: Passages that begin alike; how long they do is found here.
        batch_tokens: Positions in memory at a time, shared ones included; one row is always let in.
        greedy: Whether to find out if the most likely tokens were the right ones: it costs a
            second look at all logits.
        on_passages: Told how many more have been scored.

    Returns:
        A score for each passage, in its place.
    """
    context = model.config.context
    rows = [_rows(number, group, context) for number, group in enumerate(groups)]
    totals = [[[0.0, 0, True] for _ in group] for group in groups]
    was_training = model.training
    model.eval()
    try:
        for batch in _batches([_grouped(of_one) for of_one in rows if of_one], batch_tokens):
            for chunk, losses, right in _losses(model, batch, batch_tokens, greedy):
                for row, nats, all_right in zip(chunk, losses, right, strict=True):
                    total = totals[row.group][row.passage]
                    total[0] -= nats
                    total[1] += len(row.targets)
                    total[2] = total[2] and all_right
                on_passages(len(chunk))
    finally:
        model.train(was_training)
    return [[Score(t[0], int(t[1]), greedy and bool(t[2])) for t in of_one] for of_one in totals]


# --- what goes together ---------------------------------------------------------------------------


def _rows(number: int, group: Sequence[Passage], context: int) -> list[_Row]:
    found = []
    for place, passage in enumerate(group):
        assert passage.start >= 1, "the first token has nothing before it to predict it from"
        for window in windows(passage, context):
            ids, start = window.ids, window.start
            found.append(_Row(ids[:-1], ids[start:], number, place))
    return found


def _grouped(rows: list[_Row]) -> _Group:
    """Rows with their common beginning, where one pays."""
    if len(rows) == 1:
        return _Group(rows, 0)
    first, last = min(row.inputs for row in rows), max(row.inputs for row in rows)
    shared = min(row.free for row in rows)
    # In the order of lists, what the first and the last have in common all between them have.
    for place, (a, b) in enumerate(zip(first, last, strict=False)):
        if place == shared or a != b:
            shared = place
            break
    return _Group(rows, shared // _STEP * _STEP)


def _batches(groups: list[_Group], batch_tokens: int) -> Iterator[list[_Group]]:
    """Groups with equally long beginnings, the longest first: if memory is short, it shows then."""
    groups = sorted(groups, key=lambda g: (g.shared, g.tail), reverse=True)
    for shared, alike in groupby(groups, key=lambda g: g.shared):
        batch: list[_Group] = []
        for group in alike:
            if shared and batch and (len(batch) + 1) * shared > batch_tokens:
                yield batch
                batch = []
            batch.append(group)
        yield batch


def _chunks(rows: list[_Row], shared: int, batch_tokens: int) -> Iterator[list[_Row]]:
    """Rows by length, the longest first, as many at a time as may be in memory."""
    rows = sorted(rows, key=lambda row: len(row.inputs), reverse=True)
    at = 0
    while at < len(rows):
        size = max(1, batch_tokens // len(rows[at].inputs))
        yield rows[at : at + size]
        at += size


# --- through the network --------------------------------------------------------------------------


def _losses(
    model: GPT, batch: list[_Group], batch_tokens: int, greedy: bool
) -> Iterator[tuple[list[_Row], list[float], list[bool]]]:
    """Each row's loss in nats, and whether its tokens were the most likely ones."""
    shared = batch[0].shared
    device = model.device
    known = None
    if shared:
        beginnings = [group.rows[0].inputs[:shared] for group in batch]
        known = _cache(model, len(batch), shared)
        model.hidden(torch.tensor(beginnings, device=device), cache=known)
    place = {id(row): number for number, group in enumerate(batch) for row in group.rows}
    rows = [row for group in batch for row in group.rows]
    for chunk in _chunks(rows, shared, batch_tokens):
        length = len(chunk[0].inputs) - shared
        ids = torch.zeros((len(chunk), length), dtype=torch.int64)  # (R, T)
        targets = torch.full((len(chunk), length), _NO_TARGET)
        for number, row in enumerate(chunk):
            tail = row.inputs[shared:]
            ids[number, : len(tail)] = torch.tensor(tail)
            targets[number, len(tail) - len(row.targets) : len(tail)] = torch.tensor(row.targets)
        cache = None
        if known is not None:
            which = torch.tensor([place[id(row)] for row in chunk], device=device)
            cache = _spread(model, known, which, shared + length)
        hidden = model.hidden(ids.to(device), cache=cache)  # (R, T, C)
        counts = (targets != _NO_TARGET).to(device)
        losses, right = _of_tokens(model, hidden[counts], targets.to(device)[counts], greedy)
        sizes = [len(row.targets) for row in chunk]
        yield (
            chunk,
            [float(part.sum()) for part in losses.cpu().double().split(sizes)],
            [bool(part.all()) for part in right.cpu().split(sizes)],
        )


def _of_tokens(model: GPT, hidden: Tensor, targets: Tensor, greedy: bool) -> tuple[Tensor, Tensor]:
    """Losses (N,) of the targets (N,), and whether each is the most likely id."""
    head = model.output
    if not greedy:
        losses = token_losses(head, hidden, targets, ignore=_NO_TARGET)
        return losses, torch.ones_like(targets, dtype=torch.bool)
    size = max(1, CHUNK_BYTES // (4 * model.config.padded_vocab))
    parts = []
    for some, wanted in zip(hidden.split(size), targets.split(size), strict=True):
        logits = head.logits(some).float()
        chosen = logits.gather(1, wanted[:, None])[:, 0]
        parts.append((logits.logsumexp(1) - chosen, logits.argmax(1) == wanted))
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


def _cache(model: GPT, batch: int, capacity: int) -> KVCache:
    return KVCache(
        model.config,
        batch,
        capacity=capacity,
        device=model.device,
        dtype=model.embed.weight.dtype,
    )


def _spread(model: GPT, known: KVCache, which: Tensor, capacity: int) -> KVCache:
    """A cache for rows of which the i-th goes on where sequence `which[i]` of `known` ends."""
    cache = _cache(model, len(which), capacity)
    cache.keys[:, :, :, : known.length] = known.keys[:, which]
    cache.values[:, :, :, : known.length] = known.values[:, which]
    cache.advance(known.length)
    return cache
