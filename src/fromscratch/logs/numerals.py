"""Numbers and times as logs write them."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

NUMBER = r"[-+]?(?:\d[\d,]*(?:\.\d*)?(?:e[-+]?\d+)?|\.\d+|nan|inf(?:inity)?)"
"""A number as Python prints it, commas between thousands allowed; for re.IGNORECASE."""

_NON_FINITE = {"nan", "inf", "+inf", "-inf", "infinity", "+infinity", "-infinity"}
_LARGEST_STEP = 2**53
# 1973; a smaller number is a clock of the run's own.
_FIRST_EPOCH_SECOND = 1e8
_FIRST_EPOCH_MILLISECOND = 1e11


def number(value: object) -> float | int | None:
    """A JSON value or a word of a log as a number; None if it is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        if abs(value) < 10**300:
            return value
        return math.inf if value > 0 else -math.inf
    if isinstance(value, float):
        return value
    if isinstance(value, str):
        word = value.strip().replace(",", "").lower()
        if word in _NON_FINITE or re.fullmatch(NUMBER, word):
            return float(word)
    return None


def step_number(value: object) -> int | None:
    """A step, or None for what cannot be one."""
    found = number(value)
    if found is None or not math.isfinite(found) or found != int(found):
        return None
    return int(found) if 0 <= found < _LARGEST_STEP else None


def moment(value: object) -> str | None:
    """A time as ISO 8601: of a date as text, or of seconds or milliseconds since 1970.

    Times with an offset, and since 1970, come out in UTC; those without stay as they are.
    """
    try:
        if isinstance(value, str):
            said = datetime.fromisoformat(value.strip())
            return (said if said.tzinfo is None else said.astimezone(UTC)).isoformat()
        since = number(value)
        if since is None or not _FIRST_EPOCH_SECOND <= since < 1e15:
            return None
        seconds = since / 1000 if since >= _FIRST_EPOCH_MILLISECOND else since
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")
    except (ValueError, OverflowError, OSError):
        return None


def has_decimals(text: str, decimals: int) -> bool:
    """Whether a number was written to its last digit: the end of a cut line may look like one."""
    return bool(re.search(rf"\.\d{{{decimals}}}$|nan$|inf$", text.strip(), re.IGNORECASE))
