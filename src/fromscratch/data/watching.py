"""What long work on text tells whoever watches it.

One function takes it all: how far the work has come, and sentences that a person should read while
it goes on. Nothing here is shown; the command line does that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Stage = Literal["tokenizer", "tokens", "verifying", "joining", "downloading", "reference"]


@dataclass(frozen=True)
class Advance:
    """How far a stage of the work has come, what was done before an interruption included.

    Attributes:
        stage: Which.
        documents: Done in it.
        bytes: Of text that were read; while a file is downloaded, those that have arrived.
        share: Of the stage's work, from 0 to 1; None where nobody knows how much there is.
        file: Of a download: which file.
    """

    stage: Stage
    documents: int = 0
    bytes: int = 0
    share: float | None = None
    file: str = ""


@dataclass(frozen=True)
class Remark:
    """A sentence for the person at the keyboard, to be read now and not at the end."""

    sentence: str
    is_warning: bool = False


Watch = Callable[[Advance | Remark], None]


def unwatched(event: Advance | Remark) -> None:
    """For work that nobody watches."""
