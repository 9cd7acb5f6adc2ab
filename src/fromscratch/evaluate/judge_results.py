"""What came out: a mean for each model, differences between them, one readable file, records.

Always true: a score that could not be read is counted and named, and never becomes a number; the
reference's scores are the reference's own line, and no model's (R45).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from fromscratch.evaluate.judge_answers import Contestant
from fromscratch.evaluate.judge_folder import Answer, JudgeFolder, JudgeSettings, ScoredItem
from fromscratch.evaluate.judge_items import JudgeItem, fingerprint
from fromscratch.evaluate.judge_prompt import PROMPT, PROMPT_SHA256, REFERENCE
from fromscratch.evaluate.judge_statistics import Difference, Mean, difference_of, mean_of
from fromscratch.evaluate.records import (
    EvalRecord,
    EvaluatedData,
    Metric,
    append_record,
    read_records,
)
from fromscratch.foundation.files import dump_json, write_atomically
from fromscratch.foundation.names import RunPaths


@dataclass(frozen=True)
class Standing:
    """How one model did, or the reference.

    Attributes:
        name: As it was typed; `reference`.
        sha256: Of the weights; None for the reference.
        mean: Over the scores that could be read; None if there is none.
        asked: Items that the judge was asked about it.
        unparsed: Of these, whose score could not be read.
        cut: Answers that reached the limit of tokens.
    """

    name: str
    sha256: str | None
    mean: Mean | None
    asked: int
    unparsed: int
    cut: int

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The mean if every unparsed score were 0, and if every one were 100."""
        if self.asked == 0:
            return None
        total = 0.0 if self.mean is None else self.mean.value * self.mean.n
        return total / self.asked, (total + 100 * self.unparsed) / self.asked


@dataclass(frozen=True)
class JudgeResult:
    """The outcome.

    Attributes:
        standings: Of the models, in the order in which they were named.
        reference: Of the reference answers; None where no item has one.
        differences: By names (first, second), of every pair of models.
        items: How many were judged.
        questions_unparsed: Replies in which at least one score could not be read.
        first_unparsed: The first such reply, for people.
        usage: Tokens as the endpoint counted them, over all requests that are kept.
    """

    standings: list[Standing]
    reference: Standing | None
    differences: dict[tuple[str, str], Difference]
    items: int
    questions_unparsed: int
    first_unparsed: str
    usage: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """Plain values for a program."""
        return {
            "items": self.items,
            "models": [asdict(s) | {"bounds": s.bounds} for s in self.standings],
            "reference": None if self.reference is None else asdict(self.reference),
            "differences": [
                {"first": a, "second": b, **asdict(d)} for (a, b), d in self.differences.items()
            ],
            "replies_unparsed": self.questions_unparsed,
            "usage": self.usage,
        }


def conclude(
    contestants: Sequence[Contestant],
    items: Sequence[JudgeItem],
    answers: Mapping[tuple[str, int], Answer],
    scores: Mapping[int, ScoredItem],
    seed: int,
) -> JudgeResult:
    """The outcome over the items that have been judged."""
    judged = [(item.number, scores[item.number]) for item in items if item.number in scores]
    by_key = {
        key: {number: s.scores[key] for number, s in judged if key in s.scores}
        for key in [*(c.key for c in contestants), REFERENCE]
    }

    def standing(name: str, key: str) -> Standing:
        numbers = by_key[key]
        asked = [number for number, s in judged if key in s.order]
        cut = sum(answers[key, n].ended == "limit" for n in asked if (key, n) in answers)
        mean = mean_of(list(numbers.values()), seed=seed)
        sha256 = None if key == REFERENCE else key
        return Standing(name, sha256, mean, len(asked), len(asked) - len(numbers), cut)

    reference = standing(REFERENCE, REFERENCE)
    unread = [s for _, s in judged if s.unparsed]
    first = unread[0] if unread else None
    return JudgeResult(
        standings=[standing(c.name, c.key) for c in contestants],
        reference=reference if reference.asked else None,
        differences={
            (a.name, b.name): difference_of(by_key[a.key], by_key[b.key], seed=seed)
            for a, b in combinations(contestants, 2)
        },
        items=len(judged),
        questions_unparsed=len(unread),
        first_unparsed="" if first is None else first.refusal or first.reply,
        usage={
            name: sum(s.usage.get(name, 0) for _, s in judged)
            for name in ("prompt_tokens", "completion_tokens")
        },
    )


def write_result(
    folder: JudgeFolder,
    result: JudgeResult,
    settings: JudgeSettings,
    contestants: Sequence[Contestant],
    items: Sequence[JudgeItem],
    answers: Mapping[tuple[str, int], Answer],
    scores: Mapping[int, ScoredItem],
) -> None:
    """Writes judge.json: for each item what was asked, answered and scored, to be read by people.

    Its order is that of the test file, whatever order the replies came in.
    """
    names = {c.key: c.name for c in contestants}
    rows = []
    for item in items:
        row = item.row()
        row["responses"] = {
            names[key]: answers[key, item.number].text
            for key in names
            if (key, item.number) in answers
        }
        scored = scores.get(item.number)
        if scored is not None:
            row["scores"] = {names[k]: scored.scores.get(k) for k in names if k in scored.order}
            row["reference_score"] = scored.scores.get(REFERENCE)
            row["shown_in_order"] = [names.get(key, REFERENCE) for key in scored.order]
            row["unparsed"] = {names.get(k, REFERENCE): why for k, why in scored.unparsed.items()}
            row["reply"] = scored.reply if scored.refusal is None else None
            row["refusal"] = scored.refusal
        rows.append(row)
    content = {
        "settings": settings.flat(),
        "prompt": PROMPT,
        "results": result.to_json(),
        "items": rows,
    }
    write_atomically(folder.result, dump_json(content, indent=2) + "\n")


def record_result(
    result: JudgeResult,
    settings: JudgeSettings,
    contestants: Sequence[Contestant],
    items: Sequence[JudgeItem],
    test: Path,
    seconds: float,
) -> list[Path]:
    """Appends each run's own score to its evals.jsonl, once.

    Returns:
        The files that have a new line.
    """
    data = EvaluatedData(test.name, fingerprint(items), n_documents=len(items))
    written = []
    for contestant, standing in zip(contestants, result.standings, strict=True):
        if contestant.run is None or standing.mean is None:
            continue
        beside = [s for s in (*result.standings, result.reference) if s and s is not standing]
        others = {s.name: s.mean.value for s in beside if s.mean is not None}
        mean = standing.mean
        record = EvalRecord(
            kind="judge",
            model=contestant.model,
            data=data,
            metrics={"score": Metric(mean.value, mean.stderr, mean.n, others)},
            settings={
                "judge": settings.address.model,
                "host": settings.address.host,
                "prompt_sha256": PROMPT_SHA256,
                "confidence95": None if mean.low is None else [mean.low, mean.high],
                "asked": standing.asked,
                "unparsed": standing.unparsed,
                "judged_together": list(settings.models),
                **asdict(settings.answers),
            },
            seconds=round(seconds, 3),
        )
        path = RunPaths(contestant.run).evals
        if not any(_same(old, record) for old in read_records(path)):
            append_record(path, record)
            written.append(path)
    return written


def _same(old: EvalRecord, new: EvalRecord) -> bool:
    """Whether a line says what is there already: the same command, given once more."""
    return (old.kind, old.model.sha256, old.data.sha256, dict(old.metrics), dict(old.settings)) == (
        new.kind,
        new.model.sha256,
        new.data.sha256,
        dict(new.metrics),
        dict(new.settings),
    )
