"""What a rule says: a sentence, how much it matters, and the chart that shows it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Level(IntEnum):
    """How much a finding matters; the lower, the earlier it is said."""

    BROKEN = 0
    """The run is spoilt from some step on."""
    ALARM = 1
    """Something is wrong, or was changed without a word."""
    STATE = 2
    """How the run stands; said of healthy runs too."""
    REMARK = 3
    """Worth knowing; nothing to mend."""


@dataclass(frozen=True)
class Finding:
    """One thing that the curves show.

    Attributes:
        rule: Its name, as in docs/diagnosis.md.
        level: How much it matters.
        text: One or two sentences with the numbers they rest on.
        chart: Key of the chart that shows it, which is its anchor on the page.
        step: Where it begins; None if it is of the whole run.
    """

    rule: str
    level: Level
    text: str
    chart: str
    step: float | None = None
