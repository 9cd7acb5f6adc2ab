"""Which questions are open, what they will cost at most, and asking them, several at a time.

All models' answers to an item and its reference are judged in one request, so that they are
measured by the same rule at the same moment (R45). What is said about an item does not depend on
the order in which replies come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from fromscratch.evaluate.judge_endpoint import JudgeEndpoint, Reply
from fromscratch.evaluate.judge_folder import Answer, JudgeSettings, ScoredItem
from fromscratch.evaluate.judge_items import JudgeItem
from fromscratch.evaluate.judge_prompt import Question, make_question
from fromscratch.evaluate.judge_reply import read_scores
from fromscratch.foundation.errors import UserError

_GIVE_UP_AFTER = 10
_BYTES_PER_TOKEN = 3.5  # of English with marks in it; judges tokenize differently, few say how
_REPLY_TOKENS = (10, 10)  # of the object, and of each score in it


@dataclass(frozen=True)
class Price:
    """Dollars for a million tokens, in and out."""

    tokens_in: float
    tokens_out: float

    def of(self, tokens_in: int, tokens_out: int) -> float:
        """Dollars."""
        return (self.tokens_in * tokens_in + self.tokens_out * tokens_out) / 1e6


@dataclass(frozen=True)
class Estimate:
    """What is still to be asked, in tokens of the judge; answers not yet there at their longest."""

    requests: int
    tokens_in: int
    tokens_out: int


def open_questions(
    items: Sequence[JudgeItem],
    answers: Mapping[tuple[str, int], Answer],
    scores: Mapping[int, ScoredItem],
    settings: JudgeSettings,
    *,
    again: bool = False,
) -> list[Question]:
    """The questions without a reply, of items that every model has answered.

    A reply counts only for the very question that it was given to. Questions that the endpoint
    refused are open.

    Args:
        items: Which.
        answers: By weights and item.
        scores: By item.
        settings: Which models, and the seed of the order.
        again: Ask also where a score could not be read.
    """
    found = []
    for item in items:
        there = {key: answers.get((key, item.number)) for key in settings.models}
        texts = {key: answer.text for key, answer in there.items() if answer is not None}
        if len(texts) < len(there):
            continue
        question = make_question(item, texts, seed=settings.answers.seed)
        scored = scores.get(item.number)
        done = scored is not None and scored.question == question.sha256 and not scored.refusal
        if not done or (again and scored is not None and scored.unparsed):
            found.append(question)
    return found


def estimate(
    items: Sequence[JudgeItem],
    answers: Mapping[tuple[str, int], Answer],
    scores: Mapping[int, ScoredItem],
    settings: JudgeSettings,
    *,
    again: bool = False,
) -> Estimate:
    """What the judge will be asked at most; arguments as for `open_questions`."""
    longest = Answer("x" * int(_BYTES_PER_TOKEN * settings.answers.max_new_tokens), 0, "limit")
    assumed = {
        (key, item.number): answers.get((key, item.number), longest)
        for item in items
        for key in settings.models
    }
    questions = open_questions(items, assumed, scores, settings, again=again)
    once, each = _REPLY_TOKENS
    return Estimate(
        requests=len(questions),
        tokens_in=sum(ceil(len(q.text.encode("utf-8")) / _BYTES_PER_TOKEN) for q in questions),
        tokens_out=sum(once + each * len(q.keys) for q in questions),
    )


async def ask_all(
    endpoint: JudgeEndpoint,
    questions: Sequence[Question],
    keep: Callable[[int, ScoredItem], None],
    *,
    concurrency: int,
) -> None:
    """Asks the questions in their order, so many at a time.

    Args:
        endpoint: Whom.
        questions: What.
        keep: Is given what was said about an item as soon as it is there.
        concurrency: Requests under way at most.

    Raises:
        UserError: The judge cannot be asked, or its first replies have no score in them.
    """
    waiting = iter(questions)
    readable = unreadable = 0

    async def work() -> None:
        nonlocal readable, unreadable
        for question in waiting:
            scored = _scored(question, await endpoint.ask(question.text))
            keep(question.item, scored)
            readable += bool(scored.scores)
            unreadable += not scored.scores
            if not readable and unreadable >= _GIVE_UP_AFTER:
                raise UserError(
                    f"None of the judge's first {unreadable} replies has a score in it. The last: "
                    f"{_short(scored.refusal or scored.reply)}",
                    fix="Name a judge that can reply with the JSON it is asked for.",
                )

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(concurrency, len(questions))):
                group.create_task(work())
    except BaseExceptionGroup as group_of_errors:
        raise next(_leaves(group_of_errors)) from None


def _scored(question: Question, reply: Reply) -> ScoredItem:
    labels = list(question.keys)
    if reply.refusal is None:
        reading = read_scores(reply.text, labels)
        scores, problems = reading.scores, reading.problems
    else:
        scores, problems = {}, dict.fromkeys(labels, "the endpoint refused the question")
    return ScoredItem(
        question=question.sha256,
        order=list(question.keys.values()),
        scores={question.keys[label]: score for label, score in scores.items()},
        unparsed={question.keys[label]: why for label, why in problems.items()},
        reply=reply.text,
        refusal=reply.refusal,
        usage=reply.usage,
        options=list(reply.options),
    )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 200 else f"{line[:200]} ..."


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The single errors of a group: one of the workers' is told, the others are its echoes."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
