"""Scores out of what a judge wrote.

In: the reply, and the labels that were asked for. Out: for each label a score from 0 to 100, or why
there is none. Nothing is guessed: a label with two different scores has none.

The JSON may be all of the reply, fenced, in the middle of prose, or nested one object in another;
a number may be spelled as text, also as `85/100`. What a reasoning model thinks aloud between
`<think>` and `</think>` is not its reply.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

_THOUGHT = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)
_SPELLED = re.compile(r"\s*(\d{1,3}(?:\.\d+)?)\s*(?:/\s*100)?\s*")


@dataclass(frozen=True)
class Reading:
    """What was found in a reply.

    Attributes:
        scores: By label, 0 to 100.
        problems: Of every other label, why it has no score.
    """

    scores: dict[str, float]
    problems: dict[str, str]


def read_scores(reply: str, labels: Sequence[str]) -> Reading:
    """Finds each label's score in a reply."""
    found: dict[str, list[Any]] = {label: [] for label in labels}
    for pairs in _objects(_THOUGHT.sub("", reply)):
        for label, value in _labelled(pairs, set(labels)):
            found[label].append(value)
    scores: dict[str, float] = {}
    problems: dict[str, str] = {}
    for label, values in found.items():
        read = [_score(value) for value in values]
        if not values:
            problems[label] = "the reply has no score for it"
        elif None in read:
            shown = str(values[read.index(None)])[:60]
            problems[label] = f"not a number from 0 to 100: {shown}"
        elif len(set(read)) > 1:
            problems[label] = f"several scores: {', '.join(map(str, values))[:60]}"
        else:
            assert read[0] is not None
            scores[label] = read[0]
    return Reading(scores, problems)


class _Pairs(list[tuple[str, Any]]):
    """A JSON object's entries, also those whose key comes twice."""


def _objects(text: str) -> Iterator[_Pairs]:
    """The outermost JSON objects in a text, whatever stands around them."""
    decoder = json.JSONDecoder(object_pairs_hook=_Pairs)
    at = text.find("{")
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except RecursionError:  # nesting that nobody means; each level would be tried anew
            return
        except ValueError:
            end = at + 1
        else:
            yield value
        at = text.find("{", end)


def _labelled(value: Any, labels: set[str]) -> Iterator[tuple[str, Any]]:
    """The entries for a label, however deep: "Answer 1" is answer_1."""
    if isinstance(value, _Pairs):
        for name, inner in value:
            label = re.sub(r"[\s_-]+", "_", name.strip().lower())
            if label in labels:
                yield label, inner
            else:
                yield from _labelled(inner, labels)
    elif isinstance(value, list):
        for inner in value:
            yield from _labelled(inner, labels)


def _score(value: Any) -> float | None:
    if isinstance(value, _Pairs):
        inner = [v for name, v in value if name.strip().lower() == "score"]
        return _score(inner[0]) if len(inner) == 1 else None
    if isinstance(value, str):
        match = _SPELLED.fullmatch(value)
        value = float(match[1]) if match else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 <= value <= 100 else None  # NaN compares false
