"""The one exception that a user is meant to read.

A mistake by the user ends in a single message that says what happened, where, and what to do; the
command line prints it without a traceback and exits with code 2. A mistake by us is an `assert` or
an ordinary exception, and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class UserError(ValueError):
    """A mistake that the person at the keyboard can mend.

    Args:
        what: One sentence that says what is wrong.
        fix: What to do about it, as a sentence or a command; omitted where `what` already says it.
        regret: Which one of docs/regrets.md is refused here, if it is one: `R18`.
    """

    def __init__(self, what: str, *, fix: str | None = None, regret: str | None = None) -> None:
        self.what = what
        self.fix = fix
        self.regret = regret
        super().__init__(what if fix is None else f"{what} {fix}")


class Interrupted(Exception):  # noqa: N818  (a request, not an error)
    """Somebody asked to stop while long work was under way; the work was dropped, not half kept."""


def did_you_mean(name: str, known: Iterable[str], *, prefix: str = "") -> str:
    """Returns ` Did you mean "x"?` for the closest known name, else the empty string.

    Capitals do not count. `prefix` is put before the name that is suggested.
    """
    names = {k.lower(): k for k in known}
    close = difflib.get_close_matches(name.lower(), list(names), n=1, cutoff=0.55)
    return f' Did you mean "{prefix}{names[close[0]]}"?' if close else ""


def did_you_mean_path(path: Path) -> str:
    """` Did you mean "runs/try"?` for a path that is not there, if a name beside it is close.

    The first part that is missing is looked for in the folder before it.
    """
    if path.exists():
        return ""
    missing = path
    while missing.parent != missing and not missing.parent.exists():
        missing = missing.parent
    try:
        names = [entry.name for entry in missing.parent.iterdir()]
    except OSError:
        return ""
    close = difflib.get_close_matches(missing.name, names, n=1, cutoff=0.6)
    if not close:
        return ""
    beside = missing.parent / close[0]
    meant = beside / path.relative_to(missing)
    return f' Did you mean "{meant if meant.exists() else beside}"?'
