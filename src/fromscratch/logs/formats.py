"""Which formats there are, and which one a file is written in."""

from __future__ import annotations

from pathlib import Path

from fromscratch.foundation.errors import UserError, did_you_mean
from fromscratch.logs.build_nanogpt import BuildNanoGpt
from fromscratch.logs.items import LogFormat
from fromscratch.logs.jsonl import JsonLines
from fromscratch.logs.lines import lines, looks_binary
from fromscratch.logs.nanogpt import NanoGpt
from fromscratch.logs.rangeflow import RangeFlow
from fromscratch.logs.tensorboard import TensorBoard
from fromscratch.logs.trainer_state import TrainerState

AUTO = "auto"
FORMATS: tuple[LogFormat, ...] = (
    RangeFlow(),
    NanoGpt(),
    BuildNanoGpt(),
    JsonLines(),
    TensorBoard(),
    TrainerState(),
)
# Most logs show what they are in their first screen; before some stand megabytes of other output.
_FIRST_LOOKS = (1 << 16, 1 << 20, 1 << 24)
_FIRST_LINE = 100


def format_named(name: str) -> LogFormat | None:
    """The format of that name; None for `auto`.

    Raises:
        UserError: There is none of that name.
    """
    known = {one.name: one for one in FORMATS}
    if name == AUTO:
        return None
    if name not in known:
        raise UserError(
            f'There is no log format "{name}".{did_you_mean(name, known)}',
            fix=f"Formats: {AUTO}, {', '.join(known)}.",
        )
    return known[name]


def format_of(path: Path) -> LogFormat | None:
    """The format in which most records at the file's beginning are written; None if in none.

    Raises:
        OSError: The file cannot be read.
    """
    size = path.stat().st_size
    # A crash can leave zero bytes in a text, so one look is due to what seems to be none.
    for look in _FIRST_LOOKS[:1] if looks_binary(path) else _FIRST_LOOKS:
        found = [(one.matches(path, look), one) for one in FORMATS]
        best = max(found, key=lambda pair: pair[0])
        if best[0] > 0:
            return best[1]
        if look >= size:
            break
    return None


def first_line(path: Path) -> str:
    """The first line of a file that is not empty, as a person would be shown it."""
    if looks_binary(path):
        return "(not text)"
    for line in lines(path, most_bytes=1 << 16):
        if line.text.strip():
            text = "".join(c if c.isprintable() else "\ufffd" for c in line.text.strip())
            return text if len(text) <= _FIRST_LINE else text[:_FIRST_LINE] + "\u2026"
    return "(empty)"
