"""The two JSON files that RangeFlow's own tool makes of its logs, in its own schema.

A list of steps, each with the events that were logged after it, and a list of blocks of samples.
They hold what the tool would write (github.com/dheeren-tejani/mini-lm-124m,
metadata/postprocess_logs.py), and also steps whose loss is nan or inf, which it passes over; such a
loss is the string "nan" or "inf", because JSON has no such number.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fromscratch.foundation.files import dump_json
from fromscratch.foundation.names import IMPORTED_METRICS, IMPORTED_SAMPLES
from fromscratch.logs.collected import TRAINING, Collected


def write_published(folder: Path, collected: Collected, part: int) -> None:
    """Writes both files into `folder`, one object at a time."""
    _write_list(folder / IMPORTED_METRICS, _steps(collected, part))
    _write_list(folder / IMPORTED_SAMPLES, _blocks(collected, part))


def _steps(collected: Collected, part: int) -> Iterator[dict[str, Any]]:
    for row in collected.rows(part):
        if row.kind == TRAINING and row.details:
            yield {
                "timestamp": _plain(row.time),
                "step": row.step,
                "loss": row.values["loss"],
                "lr": row.values["lr"],
                "tokens_per_s": row.values["tokens_per_s"],
                "gpu_gb": row.values["memory_gb"],
                "elapsed_s": row.values["session_seconds"],
                "checkpoint_saved": row.details["checkpoint_saved"],
                "checkpoint_removed": row.details["checkpoint_removed"],
                "interrupted": row.details["interrupted"],
            }


def _blocks(collected: Collected, part: int) -> Iterator[dict[str, Any]]:
    for block in collected.samples(part):
        samples = [
            {"prompt": t.prompt, "response": t.original, "timestamp": _plain(t.time)}
            for t in block.texts
            if t.original is not None
        ]
        if samples:
            yield {"step": block.step, "timestamp": _plain(block.time), "samples": samples}


def _plain(time: str | None) -> str | None:
    return None if time is None else time.replace("T", " ")


def _write_list(path: Path, objects: Iterator[dict[str, Any]]) -> None:
    with open(path, "w", encoding="utf-8", errors="replace", newline="\n") as file:
        between = "[\n"
        for one in objects:
            file.write(between + textwrap.indent(dump_json(one, indent=2), "  "))
            between = ",\n"
        file.write("[]" if between == "[\n" else "\n]")
        file.flush()
        os.fsync(file.fileno())
