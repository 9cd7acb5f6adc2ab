"""What a person should know before anything is spent: one mistake of the list of regrets, mended.

The rooms say what they see; the doctor collects it, and a run writes it down before it starts.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Advice:
    """One thing that will work, and is probably not meant.

    Attributes:
        regret: Which one of docs/regrets.md: `R30`.
        what: What is so, in the person's own numbers; a clause that begins in lower case.
        fix: The line of the recipe or the command that mends it.
    """

    regret: str
    what: str
    fix: str

    def __str__(self) -> str:
        return f"{self.what}; {self.fix}" if self.fix else self.what
