"""What a person should be told while a run still goes on (R27, R28): signs of trouble to come.

In: the last updates and, where health is measured, what each layer did. Out: warnings, each with
what to do about it. A warning is given when its sign appears, and again only after `_AGAIN` steps
if it is still or again there. What was said lies in the run's progress, beside what it is judged
by, so a resumed run does not repeat itself.

The thresholds are set so that the shipped recipes, trained as they are, give none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from fromscratch.track.tracker import HealthResult
from fromscratch.train.recent import Recent

TREND = 200
"""Updates over which a trend is looked for."""

_AGAIN = 1000
_QUARTERS = 4
_RISE = 2.0
_CLIP_SPAN = 100
_CLIPPED = 0.99
_FAR_ABOVE_CLIP = 3.0
_FAR = 0.5
_DEAD = 1e-9
_BURST = 30.0
_HEALTH_ROWS = 5
_SETTLING = 20
"""Updates before layers are judged: a head that starts at zero gives the others no gradient."""


@dataclass(frozen=True)
class Sign:
    """A sign of trouble.

    Attributes:
        name: Of the event.
        message: What is seen, and what to do.
    """

    name: str
    message: str


class Watch:
    """Looks at a run as it goes.

    Args:
        memory: The run's, which `Recent` shares.
        recent: The last updates.
        warmup_steps: Of the schedule: nothing is judged before they are over.
    """

    def __init__(self, memory: dict[str, Any], recent: Recent, *, warmup_steps: int) -> None:
        self._recent = recent
        self._said: dict[str, int] = memory.setdefault("said", {})
        self._layers: dict[str, list[list[float]]] = memory.setdefault("layers", {})
        self._warmup_steps = warmup_steps

    def after_step(self, step: int, *, lr_fraction: float, clip: float) -> list[Sign]:
        """What the last updates say.

        Args:
            step: The one just made.
            lr_fraction: Of the peak learning rate, in force at it.
            clip: The largest norm of a gradient, likewise; 0 for none.
        """
        if step <= self._warmup_steps + TREND:
            return []
        return self._new(step, [*self._rising(lr_fraction), *self._clipped(clip)])

    def after_health(self, result: HealthResult) -> list[Sign]:
        """What the layers say."""
        found: dict[str, list[Sign]] = {}
        for part, row in result.parts.items():
            for sign in self._layer(part, row):
                found.setdefault(sign.name, []).append(sign)
        if result.step <= max(self._warmup_steps, _SETTLING):
            return []
        return self._new(result.step, [_first_of(signs) for signs in found.values()])

    def _new(self, step: int, signs: Sequence[Sign]) -> list[Sign]:
        """Those that were not given a short while ago."""
        last = self._said
        new = [s for s in signs if s.name not in last or step - last[s.name] >= _AGAIN]
        last.update((sign.name, step) for sign in new)
        return new

    def _rising(self, lr_fraction: float) -> Iterator[Sign]:
        """Four medians of 50 updates each, each above the one before, the last twice the first.

        While the learning rate falls, norms rise and nothing is wrong (Defazio et al. 2023).
        """
        norms = self._recent.grad_norms[-TREND:]
        if len(norms) < TREND or lr_fraction < 0.9:
            return
        size = TREND // _QUARTERS
        medians = [median(norms[i : i + size]) for i in range(0, TREND, size)]
        rises = all(a < b for a, b in pairwise(medians))
        if rises and medians[-1] > _RISE * medians[0]:
            course = ", ".join(f"{value:.3g}" for value in medians)
            yield Sign(
                "grad_norm_rises",
                f"over the last {TREND} updates the gradient norm went {course} (medians of "
                f"{size}): often what comes before the loss stops falling or jumps; resume from "
                "here with a lower optim.lr, or a smaller optim.clip",
            )

    def _clipped(self, clip: float) -> Iterator[Sign]:
        """All gradients far above the threshold; a little above it they may well be for long."""
        clipped = self._recent.clipped[-_CLIP_SPAN:]
        if len(clipped) < _CLIP_SPAN or not clip:
            return
        share, typical = sum(clipped) / _CLIP_SPAN, median(self._recent.grad_norms[-_CLIP_SPAN:])
        if share >= _CLIPPED and typical > _FAR_ABOVE_CLIP * clip:
            yield Sign(
                "mostly_clipped",
                f"{share:.0%} of the last {_CLIP_SPAN} gradients were clipped, to {clip:g} from a "
                f"median norm of {typical:.3g}: the threshold, not the gradient, sets the size of "
                "the updates; if that is not meant, raise optim.clip and lower optim.lr",
            )

    def _layer(self, part: str, row: dict[str, float]) -> Iterator[Sign]:
        """Of one part of the network, against what it did when it was looked at before."""
        history = self._layers.setdefault(part, [])
        grad, std = row["grad_norm"], row.get("activation_std", 0.0)
        if grad <= _DEAD * row["param_norm"]:
            yield Sign(
                "dead_layer",
                f"{part} gets a gradient of norm {grad:.3g} beside weights of norm "
                f"{row['param_norm']:.3g}: it no longer learns; look at its activations in "
                "health.jsonl, and lower optim.lr or lengthen schedule.warmup_steps in a new run",
            )
        if len(history) == _HEALTH_ROWS:
            for what, value, before in (
                ("gradient", grad, median(h[0] for h in history)),
                ("activation", std, median(h[1] for h in history)),
            ):
                if before > 0 and not value <= _BURST * before:
                    yield Sign(
                        f"exploding_{what}",
                        f"the {what}s of {part} are {value / before:.0f} times what they were "
                        f"({value:.3g} against {before:.3g}); resume from before with a lower "
                        "optim.lr, or set guard.spike_z=8 to leave such updates out",
                    )
        if part.startswith("blocks.") and row["update_ratio"] > _FAR:
            yield Sign(
                "far_update",
                f"one update moved {part} by {row['update_ratio']:.0%} of its weights' norm; "
                "about 0.1% is usual with AdamW and up to some 10% with Muon: lower the learning "
                "rate",
            )
        if math.isfinite(grad) and math.isfinite(std):
            history.append([grad, std])
            del history[:-_HEALTH_ROWS]


def _first_of(signs: list[Sign]) -> Sign:
    """One sign of several parts: told of the first, with the number of the others."""
    more = f" (so it is with {len(signs) - 1} more parts)" if len(signs) > 1 else ""
    return Sign(signs[0].name, signs[0].message + more)
