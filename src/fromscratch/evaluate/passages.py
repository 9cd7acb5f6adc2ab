"""How likely a model finds the ends of passages, many at a time.

In: groups of passages that begin alike (a question with each of its answers), each with the place
from which its tokens count. Out: the log-probability of that end, and whether the most likely token
was the right one throughout. Always true: the scores are those of each passage by itself, but for
rounding.

What makes it fast: passages that begin alike are one row, a tree: their common beginning goes
through the network once, each end attends to it and to itself. Rows of like length go together,
so that little is padding. Logits are computed where tokens count and nowhere else.

Shapes: R rows, T positions, C width, N tokens that count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fromscratch.model.cross_entropy import CHUNK_BYTES, token_losses
from fromscratch.model.gpt import GPT

# Sharing a beginning must save this share of all positions: it costs attention between branches.
_PAYS = 0.1
_ROOM = 256
# A chunk of this share of what may be in memory takes in no rows much shorter than its longest.
_ENOUGH = 1 / 32
_LIKE = 0.9
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
class _Tree:
    """Rows of which the first `shared` inputs are the same: those once, then the rest of each."""

    rows: list[_Row]
    shared: int

    @property
    def length(self) -> int:
        """Its positions."""
        return self.shared + sum(len(row.inputs) - self.shared for row in self.rows)


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
        batch_tokens: Positions in the network at a time; one row is always let in.
        greedy: Whether to find out if the most likely tokens were the right ones: it costs a
            second look at all logits.
        on_passages: Told how many more have been scored.

    Returns:
        A score for each passage, in its place.
    """
    context = model.config.context
    totals = [[[0.0, 0, True] for _ in group] for group in groups]
    trees = [
        tree
        for number, group in enumerate(groups)
        for tree in _trees(_rows(number, group, context))
    ]
    was_training = model.training
    model.eval()
    try:
        for chunk in _chunks(trees, batch_tokens):
            rows = [row for tree in chunk for row in tree.rows]
            losses, right = _losses(model, chunk, greedy)
            for row, nats, all_right in zip(rows, losses, right, strict=True):
                total = totals[row.group][row.passage]
                total[0] -= nats
                total[1] += len(row.targets)
                total[2] = total[2] and all_right
            on_passages(len(rows))
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


def _trees(rows: list[_Row]) -> list[_Tree]:
    """Rows of one group, with what they share once, where that pays."""
    if len(rows) < 2:
        return [_Tree([row], 0) for row in rows]
    # The token that predicts the first one that counts may be shared; what counts may not.
    shared = min(row.free + 1 for row in rows)
    first, last = min(row.inputs for row in rows), max(row.inputs for row in rows)
    # In the order of lists, what the first and the last have in common all between them have.
    for place, (a, b) in enumerate(zip(first[:shared], last, strict=False)):
        if a != b:
            shared = place
            break
    whole = sum(len(row.inputs) for row in rows)
    if (len(rows) - 1) * shared < _PAYS * whole:
        return [_Tree([row], 0) for row in rows]
    # Attention is computed between all positions of a tree, and used between few: no tall ones.
    longest = 2 * max(len(row.inputs) for row in rows) + _ROOM
    trees = [_Tree([], shared)]
    for row in rows:
        if trees[-1].rows and trees[-1].length + len(row.inputs) - shared > longest:
            trees.append(_Tree([], shared))
        trees[-1].rows.append(row)
    return trees


def _chunks(trees: list[_Tree], batch_tokens: int) -> Iterator[list[_Tree]]:
    """Trees that go through the network together: of like length, as many as may be in memory.

    The longest come first: if memory is short, it shows then.
    """
    trees = sorted(trees, key=lambda t: (len(t.rows) > 1, t.length), reverse=True)
    chunk: list[_Tree] = []
    for tree in trees:
        longest = chunk[0].length if chunk else 0
        full = (len(chunk) + 1) * longest > batch_tokens
        uneven = tree.length < _LIKE * longest and len(chunk) * longest >= _ENOUGH * batch_tokens
        mixed = chunk and (len(chunk[0].rows) > 1) != (len(tree.rows) > 1)
        if chunk and (full or uneven or mixed):
            yield chunk
            chunk = []
        chunk.append(tree)
    if chunk:
        yield chunk


# --- through the network --------------------------------------------------------------------------


def _losses(model: GPT, chunk: list[_Tree], greedy: bool) -> tuple[list[float], list[bool]]:
    """Each row's loss in nats, and whether its tokens were the most likely ones; in order."""
    length = max(tree.length for tree in chunk)
    ids = torch.zeros((len(chunk), length), dtype=torch.int64)  # (R, T)
    branch = torch.full((len(chunk), length), -1)  # (R, T): 0 is shared, -1 is padding
    places = torch.zeros((len(chunk), length), dtype=torch.int64)  # (R, T): in its own text
    predictors: list[int] = []  # of flat (R, T): where the tokens that count are predicted
    targets: list[int] = []
    sizes: list[int] = []
    for number, tree in enumerate(chunk):
        shared, at = tree.shared, tree.shared
        ids[number, :shared] = torch.tensor(tree.rows[0].inputs[:shared], dtype=torch.int64)
        branch[number, :shared] = 0
        places[number, :shared] = torch.arange(shared)
        for which, row in enumerate(tree.rows, start=1):
            end = at + len(row.inputs) - shared
            ids[number, at:end] = torch.tensor(row.inputs[shared:], dtype=torch.int64)
            branch[number, at:end] = which
            places[number, at:end] = torch.arange(shared, len(row.inputs))
            predictors += [
                number * length + (place if place < shared else at + place - shared)
                for place in range(row.free, len(row.inputs))
            ]
            targets += row.targets
            sizes.append(len(row.targets))
            at = end
    device = model.device
    layout = None
    if any(len(tree.rows) > 1 for tree in chunk):
        layout = _layout(branch.to(device), places.to(device))
    hidden = model.hidden(ids.to(device), layout=layout).flatten(0, 1)  # (R * T, C)
    wanted = torch.tensor(targets, device=device)
    counted = hidden[torch.tensor(predictors, device=device)]  # (N, C)
    losses, right = _of_tokens(model, counted, wanted, greedy)
    return (
        [float(part.sum()) for part in losses.cpu().double().split(sizes)],
        [bool(part.all()) for part in right.cpu().split(sizes)],
    )


def _layout(branch: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Positions (R, T), and who may look at whom (R, 1, T, T): at what is before, on its branch.

    Padding looks at the first token, or at padding: something, so that no softmax is over nothing.
    """
    earlier = places[:, None, :] <= places[:, :, None]
    same = (branch[:, None, :] == branch[:, :, None]) | (branch[:, None, :] == 0)
    return places, (earlier & same)[:, None]


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
