"""Arithmetic: how many tokens a model deserves, and how long a device takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fromscratch.foundation.accelerators import ACCELERATORS, Accelerator, PrecisionName

TOKENS_PER_PARAMETER = 20
"""Hoffmann et al. (2022, "Chinchilla"), tables 3 and A3: about 20 at every compute budget."""

ASSUMED_MFU = 0.4
"""Share of the data sheet's peak that well-tuned training of this size reaches; an assumption."""


def chinchilla_tokens(parameters: int) -> int:
    """The number of training tokens that spends a compute budget best on this many parameters."""
    return TOKENS_PER_PARAMETER * parameters


_TOO_FEW, _TOO_MANY = 0.25, 4.0


def far_from_optimal(tokens: float, parameters: int) -> Literal["few", "many"] | None:
    """Whether a run has far too few or too many tokens for a model of its size.

    At a quarter of Chinchilla's tokens a model half the size would have done as well; from four
    times on, the same compute would have made a larger model better.
    """
    share = tokens / chinchilla_tokens(parameters)
    return "few" if share < _TOO_FEW else "many" if share > _TOO_MANY else None


def precision_on(card: Accelerator, wanted: str) -> PrecisionName:
    """What a recipe's `train.precision` becomes on a card; `auto`, and what it lacks, its best."""
    for precision in ("fp32", "tf32", "bf16", "fp16"):
        if precision == wanted and card.flops(precision) is not None:
            return precision
    return card.best_precision


def tokens_per_second(
    card: Accelerator, precision: PrecisionName, flops_per_token: float, mfu: float
) -> float:
    """Trained tokens a second on one card at a share of its peak."""
    peak = card.flops(precision)
    assert peak is not None
    return mfu * peak / flops_per_token


@dataclass(frozen=True)
class DeviceTime:
    """How long a run takes on one accelerator.

    Attributes:
        name: What people call it.
        key: How `--gpu` spells it.
        memory_bytes: On the card.
        precision: What `train.precision` becomes there.
        hours: At the assumed share of its peak.
        cost: Of that many hours, rented; None where no price is known.
    """

    name: str
    key: str
    memory_bytes: int
    precision: str
    hours: float
    cost: float | None


def times(total_flops: float, wanted: str = "auto", mfu: float = ASSUMED_MFU) -> list[DeviceTime]:
    """The run's duration on each accelerator of the table.

    Args:
        total_flops: Of the run.
        wanted: The recipe's `train.precision`.
        mfu: Share of the peak that is reached.
    """
    rows = []
    for card in ACCELERATORS:
        precision = precision_on(card, wanted)
        hours = total_flops / tokens_per_second(card, precision, 1.0, mfu) / 3600
        cost = None if card.price is None else hours * card.price
        rows.append(DeviceTime(card.name, card.key, card.memory_bytes, precision, hours, cost))
    return rows
