"""Which share of the training windows each source has, at any place of a run.

In: weights, and stages at which they change. Out: shares, and their integral (how much of each
source is wanted up to a place), in closed form: shares are linear between knots, so the integral is
quadratic. Positions are in any unit, tokens or windows, but one. Nothing here needs numpy: `plan`
draws and counts with it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property

from fromscratch.foundation.errors import UserError


@dataclass(frozen=True)
class Stage:
    """From `start` on, other weights.

    Attributes:
        start: Where it begins.
        weights: One for each source, in any unit of their own.
        blend: The length over which shares go there along a straight line; 0 is a switch.
    """

    start: float
    weights: tuple[float, ...]
    blend: float = 0.0


@dataclass(frozen=True)
class Knot:
    """The shares at a place; between two knots they lie on a straight line."""

    position: float
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Segment:
    """Between two knots, one number for each source.

    Attributes:
        begin: Its place; the segment ends where the next begins.
        before: Integral of the shares up to there.
        shares: At the begin.
        half_slopes: Half of the change of share per unit.
    """

    begin: float
    before: tuple[float, ...]
    shares: tuple[float, ...]
    half_slopes: tuple[float, ...]


@dataclass(frozen=True)
class ShareSchedule:
    """Shares over a run: those of `weights`, then of each stage.

    Attributes:
        weights: One for each source, in force from 0 on.
        stages: By ascending start, none beginning before the blend of the one before has ended.

    Raises:
        UserError: Weights that give no shares.
    """

    weights: tuple[float, ...]
    stages: tuple[Stage, ...] = ()

    def __post_init__(self) -> None:
        end = -math.inf
        for weights in (self.weights, *(stage.weights for stage in self.stages)):
            _check_weights(weights)
            assert len(weights) == len(self.weights), "a weight for each source"
        for stage in self.stages:
            assert stage.start >= max(end, 0.0), "stages overlap"
            end = stage.start + stage.blend

    @cached_property
    def knots(self) -> list[Knot]:
        """Where shares bend or jump, from 0 on; a jump is two knots at one place."""
        now = _shares(self.weights)
        knots = [Knot(0.0, now)]
        for stage in self.stages:
            target = _shares(stage.weights)
            knots += [Knot(stage.start, now), Knot(stage.start + stage.blend, target)]
            now = target
        return knots

    @cached_property
    def segments(self) -> list[Segment]:
        """The pieces that have a length; the last one has no end."""
        none = (0.0,) * len(self.weights)
        segments: list[Segment] = []
        total = none
        for knot, following in zip(self.knots, [*self.knots[1:], None], strict=True):
            slopes = none
            if following is not None:
                length = following.position - knot.position
                if not length > 0:
                    continue
                slopes = tuple(
                    (b - a) / (2 * length)
                    for a, b in zip(knot.shares, following.shares, strict=True)
                )
            segments.append(Segment(knot.position, total, knot.shares, slopes))
            if following is not None:
                total = tuple(
                    before + length * (share + length * slope)
                    for before, share, slope in zip(total, knot.shares, slopes, strict=True)
                )
        return segments

    def shares_at(self, position: float) -> tuple[float, ...]:
        """The shares in force at a place; where they jump, the new ones."""
        segment = self._segment(position)
        along = position - segment.begin
        return tuple(
            share + 2 * along * slope
            for share, slope in zip(segment.shares, segment.half_slopes, strict=True)
        )

    def wanted(self, position: float) -> list[float]:
        """How much of each source is wanted up to a place: the integral of its share."""
        return [self.wanted_of(source, position) for source in range(len(self.weights))]

    def wanted_of(self, source: int, position: float) -> float:
        """`wanted` of one source."""
        segment = self._segment(position)
        along = position - segment.begin
        share, slope = segment.shares[source], segment.half_slopes[source]
        return segment.before[source] + along * (share + along * slope)

    def _segment(self, position: float) -> Segment:
        return self.segments[bisect_right(self._begins, position) - 1]

    @cached_property
    def _begins(self) -> list[float]:
        return [segment.begin for segment in self.segments]


def _check_weights(weights: tuple[float, ...]) -> None:
    bad = [w for w in weights if not (math.isfinite(w) and w >= 0)]
    if bad or not any(weights):
        raise UserError(f"Source weights {list(weights)} must be non-negative and not all zero.")


def _shares(weights: tuple[float, ...]) -> tuple[float, ...]:
    total = math.fsum(weights)  # rounded once, so the same in every version of Python
    return tuple(w / total for w in weights)
