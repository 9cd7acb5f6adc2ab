"""What a check finds, and what a check is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from fromscratch.foundation.advice import Advice
from fromscratch.foundation.errors import UserError

Severity = Literal["refused", "warned"]
"""`refused`: it will not run, or must not. `warned`: it will, and is probably not meant."""

Subject = TypeVar("Subject")


@dataclass(frozen=True)
class Finding:
    """One thing that a person would regret.

    Attributes:
        id: Which one of docs/regrets.md: `R30`; empty for a refusal that is none of them.
        severity: Whether it is refused or only warned of.
        what: What is so, in the person's own numbers.
        fix: The command, or the line of the recipe, that mends it; may be empty.
        about: What was looked at: a recipe's name, or a folder.
        check: The name of the check that found it.
    """

    id: str
    severity: Severity
    what: str
    fix: str
    about: str
    check: str = ""

    def __str__(self) -> str:
        said = f"{self.what}; {self.fix}" if self.fix else self.what
        return f"{said} ({self.id})" if self.id else said


@dataclass(frozen=True)
class Check(Generic[Subject]):
    """One regret, looked for in one kind of thing.

    Attributes:
        id: Which regret; empty where it is none that is written down.
        name: What is looked for, in a few words.
        look: Gives a piece of advice for each place where it is so.
        severity: How grave it is.
    """

    id: str
    name: str
    look: Callable[[Subject], Iterable[Advice]]
    severity: Severity = "warned"

    def findings(self, subject: Subject, about: str) -> list[Finding]:
        """What it finds; a refusal that comes up while it looks is a finding too."""
        try:
            return [
                Finding(advice.regret, self.severity, advice.what, advice.fix, about, self.name)
                for advice in self.look(subject)
            ]
        except UserError as error:
            return [refusal(error, about, self.name)]
        except (OSError, UnicodeError) as error:  # a damaged folder is looked at all the same
            return [Finding(self.id, "warned", f"it cannot be read: {error}", "", about, self.name)]


def refusal(error: UserError, about: str, check: str = "") -> Finding:
    """What is refused, as a finding."""
    return Finding(error.regret or "", "refused", error.what, error.fix or "", about, check)
