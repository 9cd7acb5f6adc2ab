"""CORE, the metric of DCLM (Li et al. 2024) as karpathy/nanochat computes it: 22 tasks, centred.

In: a model and the bundle of tasks as a local folder (core_bundle.py). Out: the accuracy in each
task, the same between chance (0) and perfect (1), and the mean of those: CORE.

Each question follows a few examples, drawn anew for each question by its own seed. How the answer
is found depends on the type of task:

- multiple_choice: one question, several answers: the one with the lowest mean loss, over the tokens
  in which the answers differ;
- schema: several contexts, one continuation: the one with the lowest mean loss of the continuation;
- language_modeling: the continuation's tokens are each the most likely one.

Always true: as in nanochat, every sequence begins with end-of-text, and of one that is longer than
the context the last tokens count. Where nanochat would stop in the middle (a continuation that
melts into the tokens before it, or is longer than the context) the tokens that can be scored are.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fromscratch.checkpoint.bundle import ModelBundle
from fromscratch.evaluate.core_bundle import CoreBundle, CoreItem, CoreTask
from fromscratch.evaluate.multiple_choice import encode_texts, stderr_of_share
from fromscratch.evaluate.passages import Passage, Score, score_passages
from fromscratch.evaluate.records import EvalRecord, EvaluatedData, EvaluatedModel, Metric
from fromscratch.foundation.errors import UserError
from fromscratch.tokenizer.tokenizer import Tokenizer

REFERENCES = {"GPT-2 124M": 0.1139, "GPT-2 1558M": 0.256525}
"""Of OpenAI's weights on the whole bundle: karpathy/nanochat, dev/estimate_gpt3_core.ipynb and
README."""

N_TASKS = 22

_SHUFFLE_SEED = 1337
_EXAMPLES_SEED = 1234
_PORTION = 64  # questions encoded and scored at a time


@dataclass(frozen=True)
class TaskResult:
    """How a model did in one task.

    Attributes:
        acc: Share of right answers.
        centered: (acc - chance) / (1 - chance); 0 is guessing, 1 is perfect.
        n: Questions.
    """

    acc: float
    centered: float
    n: int


def core_records(
    bundle: ModelBundle,
    model: EvaluatedModel,
    core: CoreBundle,
    *,
    batch_tokens: int,
    limit: int | None = None,
    on_questions: Callable[[int], None] = lambda n: None,
) -> list[EvalRecord]:
    """Evaluates a model on all tasks of a bundle.

    Args:
        bundle: The model.
        model: Which weights it has.
        core: The tasks.
        batch_tokens: Positions in memory at a time.
        limit: So many questions of each task, of a shuffle that is always the same.
        on_questions: Told how many more are answered.

    Returns:
        A record for each task, and the one of CORE itself last.

    Raises:
        UserError: A task has too few questions to take examples from.
    """
    records, results = [], []
    settings = {"limit": limit, "context": bundle.model.config.context}
    begin = time.perf_counter()
    for task in core.tasks:
        start = time.perf_counter()
        right = answer_task(
            bundle, task, batch_tokens=batch_tokens, limit=limit, on_questions=on_questions
        )
        result = _result(right, task.chance)
        results.append(result)
        records.append(
            EvalRecord(
                kind="core",
                model=model,
                data=EvaluatedData(task.label, task.sha256, n_documents=result.n),
                metrics=_metrics(result, task.chance),
                settings={"shots": task.shots, "type": task.type} | settings,
                seconds=time.perf_counter() - start,
            )
        )
    whole = limit is None and len(core.tasks) == N_TASKS
    errors = [record.metrics["centered"].stderr for record in records]
    stderr = _stderr_of_mean(errors)
    records.append(
        EvalRecord(
            kind="core",
            model=model,
            data=EvaluatedData("CORE", core.sha256, n_documents=sum(r.n for r in results)),
            metrics={
                "centered": Metric(
                    value=sum(r.centered for r in results) / len(results),
                    stderr=stderr,
                    n=len(results),
                    reference={
                        name if whole else f"{name} (all {N_TASKS} tasks, whole)": value
                        for name, value in REFERENCES.items()
                    },
                )
            },
            settings={"tasks": [task.label for task in core.tasks]} | settings,
            seconds=time.perf_counter() - begin,
        )
    )
    return records


def _result(right: Sequence[bool], chance: float) -> TaskResult:
    acc = sum(right) / len(right)
    return TaskResult(acc, (acc - chance) / (1 - chance), len(right))


def _metrics(result: TaskResult, chance: float) -> dict[str, Metric]:
    stderr = stderr_of_share(result.acc, result.n)
    centered = None if stderr is None else stderr / (1 - chance)
    return {
        "acc": Metric(result.acc, stderr, result.n, {"chance": chance}),
        "centered": Metric(result.centered, centered, result.n),
    }


def _stderr_of_mean(errors: Sequence[float | None]) -> float | None:
    """Of the mean over tasks, whose questions were drawn independently; the tasks are given."""
    known = [e for e in errors if e is not None]
    return math.hypot(*known) / len(errors) if len(known) == len(errors) else None


def n_questions(core: CoreBundle, limit: int | None) -> int:
    """How many questions an evaluation has."""
    sizes = [len(task.items) for task in core.tasks]
    return sum(min(size, limit) if limit else size for size in sizes)


def answer_task(
    bundle: ModelBundle,
    task: CoreTask,
    *,
    batch_tokens: int,
    limit: int | None = None,
    on_questions: Callable[[int], None] = lambda n: None,
) -> list[bool]:
    """Which questions of a task the model answers rightly, in the order of the fixed shuffle."""
    items = list(task.items)
    random.Random(_SHUFFLE_SEED).shuffle(items)
    items = items[:limit] if limit else items
    if len(items) <= task.shots:
        raise UserError(
            f"{task.label}: {task.shots} examples are to stand before each of its {len(items)} "
            "questions, and must be others.",
            fix=f"Give --limit {task.shots + 1} or more." if limit else None,
        )
    right: list[bool] = []
    for begin in range(0, len(items), _PORTION):
        portion = range(begin, min(len(items), begin + _PORTION))
        prompts = [_prompts(task, items, i) for i in portion]
        groups = _groups(bundle.tokenizer, task, prompts, bundle.model.config.context)
        scores = score_passages(
            bundle.model,
            groups,
            batch_tokens=batch_tokens,
            greedy=task.type == "language_modeling",
        )
        right += [
            _is_right(task, items[i].gold, of_one)
            for i, of_one in zip(portion, scores, strict=True)
        ]
        on_questions(len(portion))
    return right


def _is_right(task: CoreTask, gold: int, scores: Sequence[Score]) -> bool:
    if task.type == "language_modeling":
        return scores[0].n_tokens > 0 and scores[0].greedy
    # A choice that adds nothing to what all have in common is never the best.
    losses = [-s.logprob / s.n_tokens if s.n_tokens else math.inf for s in scores]
    return losses.index(min(losses)) == gold


# --- prompts --------------------------------------------------------------------------------------


def _prompts(task: CoreTask, items: Sequence[CoreItem], index: int) -> list[str]:
    """The texts of one question after its examples.

    Of language modeling: without the continuation, and with it.
    """
    others = [i for i in range(len(items)) if i != index]
    drawn = random.Random(_EXAMPLES_SEED + index).sample(others, task.shots) if task.shots else []
    item = items[index]
    before = "".join(f"{_solved(task, items[i])}\n\n" for i in drawn)
    between = task.delimiter
    if task.type == "multiple_choice":
        return [f"{before}{item.contexts[0]}{between}{choice}" for choice in item.continuations]
    if task.type == "schema":
        return [f"{before}{context}{between}{item.continuations[0]}" for context in item.contexts]
    asked = f"{before}{item.contexts[0].strip()}{between}"
    # A space at the end would be part of the continuation's first token.
    return [asked.strip(), asked + item.continuations[0]]


def _solved(task: CoreTask, item: CoreItem) -> str:
    if task.type == "multiple_choice":
        return f"{item.contexts[0]}{task.delimiter}{item.continuations[item.gold]}"
    if task.type == "schema":
        return f"{item.contexts[item.gold]}{task.delimiter}{item.continuations[0]}"
    return f"{item.contexts[0].strip()}{task.delimiter}{item.continuations[0]}"


def _groups(
    tokenizer: Tokenizer, task: CoreTask, prompts: Sequence[Sequence[str]], context: int
) -> list[list[Passage]]:
    """Each question's sequences, with the tokens that count."""
    encoded = iter(encode_texts(tokenizer, [text for texts in prompts for text in texts]))
    groups = []
    for texts in prompts:
        ids = [[tokenizer.eot_id, *next(encoded)] for _ in texts]
        if task.type == "schema":
            same = _common([of_one[::-1] for of_one in ids])
            groups.append([_cut(x, len(x) - same, context) for x in ids])
        elif task.type == "multiple_choice":
            start = _common(ids)
            groups.append([_cut(x, start, context) for x in ids])
        else:
            groups.append([_cut(ids[1], _common(ids), context)])
    return groups


def _common(sequences: Sequence[list[int]]) -> int:
    """How many tokens all begin with."""
    first, last = min(sequences), max(sequences)
    for place, (a, b) in enumerate(zip(first, last, strict=False)):
        if a != b:
            return place
    return min(len(first), len(last))


def _cut(ids: list[int], start: int, context: int) -> Passage:
    """The last tokens of a sequence, as many as the context has; the first of them is given."""
    dropped = max(0, len(ids) - context)
    return Passage(ids[dropped:], max(1, start - dropped))
