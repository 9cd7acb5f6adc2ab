"""A run as one of those on the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fromscratch.report.course import Clock
from fromscratch.report.facts import Facts, gather
from fromscratch.report.record import RunRecord


@dataclass(frozen=True)
class Shown:
    """A run with what is known of it.

    Attributes:
        record: What its files say.
        facts: What that comes down to.
        clock: Where its rows lie on each axis.
        label: What tells it from the others on the page; empty where it is the only one.
    """

    record: RunRecord
    facts: Facts
    clock: Clock
    label: str = ""

    def called(self, name: str) -> str:
        """The name of one of its curves."""
        return f"{self.label}: {name}" if self.label else name


def shown(records: Sequence[tuple[Path, RunRecord]]) -> tuple[Shown, ...]:
    """The runs with labels that differ: the folders' names, with as much before as it takes."""
    labels = _labels([folder for folder, _ in records]) if len(records) > 1 else [""]
    return tuple(
        Shown(record, gather(record), Clock.of(record), label)
        for (_, record), label in zip(records, labels, strict=True)
    )


def _labels(folders: Sequence[Path]) -> list[str]:
    parts = [folder.resolve().parts for folder in folders]
    for depth in range(1, max(len(p) for p in parts) + 1):
        labels = ["/".join(p[-depth:]) for p in parts]
        if len(set(labels)) == len(labels):
            return labels
    # The same folder twice.
    return [f"{p[-1]} ({i})" for i, p in enumerate(parts, start=1)]
