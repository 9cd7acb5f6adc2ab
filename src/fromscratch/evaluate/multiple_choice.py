"""Questions with several answers: the one that the model finds most likely is its own.

In: items of token ids. Out: for each the log-probability of every answer and which one is chosen,
by the sum (`acc`) and by the sum over the answer's length (`acc_norm`); or how many are right.

What counts as an answer's length is the protocol's business and comes with the item. Encoding a
question and an answer follows lm-evaluation-harness (Gao et al. 2021, `_encode_pair`): the two
together, cut where the question's own tokens end; spaces at the end of the question belong to the
answer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fromscratch.evaluate.passages import Passage, score_passages
from fromscratch.foundation.errors import Interrupted, UserError
from fromscratch.model.gpt import GPT
from fromscratch.parallel.ranks import Ranks
from fromscratch.tokenizer.tokenizer import Tokenizer

_ITEMS_PER_ROUND = 32
"""Of each rank, between two questions whether to stop."""


@dataclass(frozen=True)
class ChoiceItem:
    """A question.

    Attributes:
        passages: One for each answer: the question and that answer.
        lengths: What `acc_norm` divides each log-probability by.
        gold: The right one.
    """

    passages: tuple[Passage, ...]
    lengths: tuple[float, ...]
    gold: int


@dataclass(frozen=True)
class Answer:
    """What a model makes of a question.

    Attributes:
        logprobs: Of each answer, in nats.
        chosen: The most likely one, the first among equals.
        chosen_norm: Likewise by log-probability per length.
        gold: The right one.
    """

    logprobs: tuple[float, ...]
    chosen: int
    chosen_norm: int
    gold: int


@dataclass(frozen=True)
class Tally:
    """How many answers were right."""

    n: int
    right: int
    right_norm: int

    @property
    def acc(self) -> float:
        """Share of right answers, by the sum."""
        return self.right / self.n

    @property
    def acc_norm(self) -> float:
        """Share of right answers, by the sum over the length."""
        return self.right_norm / self.n


def stderr_of_share(share: float, n: int) -> float | None:
    """Standard error of a share of n: the sample deviation over sqrt(n); None for a single item."""
    return math.sqrt(share * (1 - share) / (n - 1)) if n > 1 else None


def encode_pairs(tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]]) -> list[Passage]:
    """Contexts and continuations as passages in which the continuation counts.

    Args:
        tokenizer: The model's.
        pairs: Neither part empty. A context of spaces alone is the start of a document.

    Raises:
        UserError: A character that the tokenizer does not have, or a continuation that adds no
            token.
    """
    cut = []
    for context, continuation in pairs:
        bare = context.rstrip()
        cut.append((bare, context[len(bare) :] + continuation))
    # Most contexts come several times, once with each answer.
    contexts = dict.fromkeys(context for context, _ in cut)
    texts = [*contexts, *(context + continuation for context, continuation in cut)]
    encoded = encode_texts(tokenizer, texts)
    ids_of = dict(zip(contexts, encoded, strict=False))
    passages = []
    for (context, after), whole in zip(cut, encoded[len(contexts) :], strict=True):
        before = ids_of[context]
        if len(whole) <= len(before):
            raise UserError(
                f"There is nothing to score: {after[:60]!r} adds no token to {context[-60:]!r}."
            )
        passages.append(Passage([*before, *whole[len(before) :]], len(before)))
    eot = tokenizer.eot_id
    return [p if p.start else Passage([eot, *p.ids], 1) for p in passages]


def encode_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The ids of each text; all go to the tokenizer at once.

    Raises:
        UserError: A character that the tokenizer does not have.
    """
    ids, counts = tokenizer.encode_ragged(texts)
    return [part.tolist() for part in np.split(ids, np.cumsum(counts)[:-1])] if texts else []


def answer_items(
    model: GPT,
    items: Sequence[ChoiceItem],
    *,
    batch_tokens: int,
    on_passages: Callable[[int], None] = lambda n: None,
) -> list[Answer]:
    """The model's answers, in the order of the items; arguments as for `score_passages`."""
    scores = score_passages(
        model,
        [item.passages for item in items],
        batch_tokens=batch_tokens,
        on_passages=on_passages,
    )
    return [
        _answer(item, [score.logprob for score in of_item])
        for item, of_item in zip(items, scores, strict=True)
    ]


def _answer(item: ChoiceItem, logprobs: list[float]) -> Answer:
    # An answer of no length (nothing but brackets in HellaSwag) is never the most likely one.
    per_length = [
        x / length if length else -math.inf
        for x, length in zip(logprobs, item.lengths, strict=True)
    ]
    return Answer(
        logprobs=tuple(logprobs),
        chosen=logprobs.index(max(logprobs)),
        chosen_norm=per_length.index(max(per_length)),
        gold=item.gold,
    )


def tally_of(answers: Sequence[Answer]) -> Tally:
    """How many of these are right."""
    return Tally(
        n=len(answers),
        right=sum(a.chosen == a.gold for a in answers),
        right_norm=sum(a.chosen_norm == a.gold for a in answers),
    )


def tally(
    model: GPT,
    items: Sequence[ChoiceItem],
    *,
    batch_tokens: int,
    should_stop: Callable[[], bool] = lambda: False,
    ranks: Ranks | None = None,
) -> Tally:
    """How many items the model answers rightly, during training.

    Args:
        model: Uncompiled; its mode is restored afterwards.
        items: All of them, on every rank.
        batch_tokens: As for `score_passages`.
        should_stop: Asked between rounds of items; the same answer on every rank.
        ranks: Who shares the work; the result is the same on all of them.

    Raises:
        Interrupted: `should_stop` said so.
    """
    ranks = Ranks() if ranks is None else ranks
    # Items of like length are in one round: little of a batch is padding then.
    items = sorted(items, key=lambda item: len(item.passages[0].ids), reverse=True)
    per_round = _ITEMS_PER_ROUND * ranks.size
    right = right_norm = 0
    for begin in range(0, len(items), per_round):
        if should_stop():
            raise Interrupted
        mine = items[begin + ranks.world.rank : begin + per_round : ranks.size]
        here = tally_of(answer_items(model, mine, batch_tokens=batch_tokens))
        right += here.right
        right_norm += here.right_norm
    sums = ranks.sum(right, right_norm)
    return Tally(n=len(items), right=int(sums[0]), right_norm=int(sums[1]))
