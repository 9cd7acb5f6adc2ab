"""A fault of training: windows of one kind of text give a loss that is no number.

Processes get the same one from parallel/faulty.py.
"""

import math
import random
from pathlib import Path
from typing import Any

from command import call

MARK = ord("~")


def poison_text(place: Path) -> None:
    """Prepares text that is full of the mark, as the source `poison`."""
    if (place / "poison").is_dir():
        return
    (place / "poison-text").mkdir()
    draw = random.Random(1)
    for i in range(40):
        (place / f"poison-text/{i}.txt").write_text(f"{i}" + "~" * draw.randint(380, 420))
    made = call(
        "prepare", place / "poison-text", "--out", place / "poison",
        "--tokenizer", "bytes", "--val-fraction", "0.15", "--documents", "file",
    )  # fmt: skip
    assert made.code == 0, made.err


def faulty(objective: Any) -> Any:
    """The objective, but not a number wherever the mark is in the batch."""

    def loss(model: Any, batch: Any) -> Any:
        value = objective(model, batch)
        return value * math.nan if bool((batch.ids == MARK).any()) else value

    return loss
