"""The answers of a finetuned run to its test examples, as a file that people and judges read.

In: a run that is over, and the conversations of its test side. Out: RUN/answers.json, a list in the
source's order: Alpaca's fields for one question (or `messages` for a longer conversation), `output`
with the answer of the data, `model_response` with the model's, and how that ended. It is the run's
best checkpoint that answers, greedily.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fromscratch.chat.conversations import Message
from fromscratch.chat.template import Template
from fromscratch.checkpoint.bundle import ModelBundle, load_bundle
from fromscratch.foundation.files import dump_json, write_atomically
from fromscratch.generate.batch import Completion, answer_request, complete
from fromscratch.generate.sampling import SamplingOptions
from fromscratch.runs.opened_examples import OpenedExamples
from fromscratch.runs.session import Session


@dataclass(frozen=True)
class Question:
    """A test example: what is asked, and the answer that the data has."""

    source: str
    messages: tuple[Message, ...]
    reference: str


@dataclass(frozen=True)
class Answered:
    """What came of it.

    Attributes:
        text: The answer.
        ended: `end`: the model stopped by itself; `limit`: it was stopped.
    """

    text: str
    ended: str


def has_questions(session: Session) -> bool:
    """Whether a run has test examples that are to be answered."""
    data = session.data
    if not isinstance(data, OpenedExamples) or not session.recipe.chat.answer:
        return False
    return data.total("examples", "test") > 0


def write_answers(session: Session, *, advance: Callable[[int, int], None]) -> Path:
    """Answers a run's test examples.

    Args:
        session: Of a run that is over.
        advance: Told how many are done, and of how many.

    Returns:
        The file.
    """
    data = session.data
    assert isinstance(data, OpenedExamples)
    questions = [
        question
        for source, messages in data.test_conversations()
        if (question := question_of(source, messages)) is not None
    ]
    bundle = load_bundle(session.paths.root)
    bundle.model.to(session.state.model.device)
    assert data.template is not None
    answers = answer(
        bundle,
        data.template,
        questions,
        max_new_tokens=session.recipe.chat.max_new_tokens,
        advance=advance,
    )
    rows = [
        _row(question, answered, bundle.sha256)
        for question, answered in zip(questions, answers, strict=True)
    ]
    write_atomically(session.paths.answers, dump_json(rows, indent=2) + "\n")
    return session.paths.answers


def question_of(source: str, messages: Sequence[Message]) -> Question | None:
    """A conversation up to its last answer; None where nobody asks before that."""
    for last in range(len(messages) - 1, 0, -1):
        if messages[last].role == "assistant" and messages[last - 1].role == "user":
            return Question(source, tuple(messages[:last]), messages[last].content)
    return None


def answer(
    bundle: ModelBundle,
    template: Template,
    questions: Sequence[Question],
    *,
    max_new_tokens: int,
    advance: Callable[[int, int], None] = lambda done, of: None,
) -> list[Answered]:
    """Answers questions greedily.

    A prompt that leaves no room for an answer in the context loses its beginning.
    """
    context = bundle.model.config.context
    most = min(max_new_tokens, context // 2)
    requests = []
    for question in questions:
        whole = answer_request(
            template,
            bundle.tokenizer,
            question.messages,
            max_new_tokens=most,
            options=SamplingOptions(temperature=0.0),
        )
        requests.append(replace(whole, prompt=whole.prompt[-(context - most) :]))
    n_done = 0

    def done(number: int, completion: Completion) -> None:
        nonlocal n_done
        n_done += 1
        advance(n_done, len(requests))

    completions = complete(bundle.model, bundle.tokenizer, requests, on_done=done)
    return [Answered(c.text, "limit" if c.finish == "length" else "end") for c in completions]


def _row(question: Question, answered: Answered, sha256: str) -> dict[str, Any]:
    messages = question.messages
    if len(messages) == 1:
        row: dict[str, Any] = {"instruction": messages[0].content, "input": messages[0].context}
    else:
        row = {"messages": [{"role": m.role, "content": m.content} for m in messages]}
    return row | {
        "output": question.reference,
        "model_response": answered.text,
        "ended": answered.ended,
        "source": question.source,
        "model": sha256,
    }
