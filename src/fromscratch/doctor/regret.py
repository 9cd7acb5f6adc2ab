"""One regret: what happens to people who train a language model at home, and what is true here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["impossible", "refused", "warned", "recovered"]
"""`impossible`: the design rules it out. `refused`: an error before anything is spent. `warned`:
the doctor and the start of a run say it, with what to do. `recovered`: the run survives it."""


@dataclass(frozen=True)
class Regret:
    """A mistake that costs people days.

    Attributes:
        id: `R01` to `R57`; never given to another one.
        title: In a line.
        verdict: What becomes of it here.
        story: What happens to people, in a few sentences.
        here: What is true here, with the command or the recipe's key where there is one.
        besides: What becomes of the part of it that the verdict does not cover.
    """

    id: str
    title: str
    verdict: Verdict
    story: str
    here: str
    besides: Verdict | None = None

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """What becomes of it: one word, or two where its parts fare differently."""
        return (self.verdict,) if self.besides is None else (self.verdict, self.besides)
