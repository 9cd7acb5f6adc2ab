"""What `bench` measured, kept for `plan`: `runs/bench.json`, one entry per model and device.

Without torch. An entry belongs to a shape of model, optimiser and step; a later measurement of the
same on the same device replaces it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import dump_json, read_json, write_atomically
from fromscratch.foundation.names import BENCH_RESULTS
from fromscratch.runs.recipe import Recipe

RESULTS = Path("runs") / BENCH_RESULTS


@dataclass(frozen=True)
class Measured:
    """The best that `bench` saw of a recipe on a device, in one precision.

    Attributes:
        shape: `shape_of` the recipe.
        recipe: Its name.
        device: As the driver calls it.
        card: Its key in the table of GPUs; None where it is not in it.
        precision: Of the matrix products.
        auto: Whether `train.precision = "auto"` becomes this precision there.
        micro_batch: The fastest.
        tokens_per_s: Trained, with it.
        peak_bytes: Memory, with it.
        mfu: Share of the device's peak.
        peak_measured: Whether that peak was measured, too.
        when: Day, as 2026-11-21.
    """

    shape: str
    recipe: str
    device: str
    card: str | None
    precision: str
    auto: bool
    micro_batch: int
    tokens_per_s: float
    peak_bytes: int
    mfu: float
    peak_measured: bool
    when: str


def shape_of(recipe: Recipe) -> str:
    """A hash of all that a recipe's speed depends on, but for micro-batch and precision."""
    train = recipe.train
    content = [
        recipe.model.model_dump(),
        recipe.optim.name,
        train.tokens_per_step,
        train.compile,
        train.activation_checkpointing,
        recipe.data.document_mask,
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def remember(entries: list[Measured]) -> None:
    """Adds entries, each in the place of the one of its shape, device and precision.

    Raises:
        OSError: The file cannot be written.
    """
    new = {(e.shape, e.device, e.precision) for e in entries}
    kept = [e for e in _read() if (e.shape, e.device, e.precision) not in new]
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    rows = [asdict(entry) for entry in [*kept, *entries]]
    write_atomically(RESULTS, dump_json(rows, indent=1) + "\n")


def measured(recipe: Recipe) -> list[Measured]:
    """What was measured of the recipe, in the precision it trains in, the latest last."""
    wanted = recipe.train.precision
    shape = shape_of(recipe)
    return [
        entry
        for entry in _read()
        if entry.shape == shape and (entry.auto if wanted == "auto" else entry.precision == wanted)
    ]


def _read() -> list[Measured]:
    if not RESULTS.is_file():
        return []
    try:
        return [Measured(**row) for row in read_json(RESULTS)]
    except (TypeError, UserError):  # of another release, or edited: it can be measured again
        return []
