"""The points of a loss landscape on disk: a file that grows point by point.

The first line says what the numbers depend on, and the file's name is its hash; each further line
is a point, in the order of the grid. So a file that was cut anywhere is a prefix of the whole one,
and going on from its last complete line gives the same bytes as never having been interrupted.
No torch: the report reads it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fromscratch.foundation.files import dump_json, fsync_file
from fromscratch.foundation.names import landscape_file


@dataclass(frozen=True)
class LandscapeSettings:
    """What the losses of a landscape depend on.

    Attributes:
        model: sha256 of the weights' file.
        step: Updates behind the weights; None if unknown.
        data: Fingerprint of the text.
        targets: Held-out tokens that each point is the mean loss of.
        context: Tokens in a window.
        seed: Of the two directions.
        points: Points along each axis; odd, so that the weights themselves are the middle one.
        reach: The axes go from -reach to reach; at 1 each row of a matrix has moved by its norm.
    """

    model: str
    step: int | None
    data: str
    targets: int
    context: int
    seed: int
    points: int
    reach: float

    @property
    def key(self) -> str:
        """sha256 of all of it."""
        return hashlib.sha256(dump_json(self._row()).encode()).hexdigest()

    def axis(self) -> list[float]:
        """The coordinates along each axis, ascending; the middle one is 0 exactly."""
        middle = self.points // 2
        return [self.reach * (i - middle) / middle for i in range(self.points)]

    def grid(self) -> Iterator[tuple[float, float]]:
        """The points in their order: x runs fastest."""
        return ((x, y) for y in self.axis() for x in self.axis())

    def _row(self) -> dict[str, Any]:
        return {"landscape": 1} | asdict(self)

    def line(self) -> bytes:
        """The first line of the file."""
        return (dump_json(self._row()) + "\n").encode()


@dataclass(frozen=True)
class LandscapePoints:
    """A landscape as far as it is computed.

    Attributes:
        settings: What it depends on.
        losses: Nats per token of the first points of the grid, in its order.
    """

    settings: LandscapeSettings
    losses: tuple[float, ...]

    @property
    def is_whole(self) -> bool:
        return len(self.losses) == self.settings.points**2

    @property
    def centre(self) -> float:
        """The loss of the weights themselves."""
        return self.losses[self.settings.points**2 // 2]


class PointsFile:
    """One landscape's file, for writing.

    Args:
        folder: RUN/landscape; made if absent.
        settings: Of the landscape.
    """

    def __init__(self, folder: Path, settings: LandscapeSettings) -> None:
        folder.mkdir(exist_ok=True)
        self.path = folder / landscape_file(settings.key)
        self.settings = settings
        self._done = self._cut_to_whole_lines()

    @property
    def done(self) -> int:
        """How many points are there."""
        return self._done

    def append(self, point: tuple[float, float], loss: float) -> None:
        """Adds the next point of the grid; a kill leaves it there, or cut and to be made again."""
        with open(self.path, "ab") as handle:
            handle.write(_line(point, loss))
        self._done += 1
        if self._done == self.settings.points**2:
            fsync_file(self.path)

    def _cut_to_whole_lines(self) -> int:
        """Leaves what is complete and as it should be, and says how many points that is."""
        content = self.path.read_bytes() if self.path.exists() else b""
        found = _parse(content)
        if found is None or found.settings != self.settings:
            self.path.write_bytes(self.settings.line())
            return 0
        size = len(self.settings.line()) + sum(
            len(_line(point, loss))
            for point, loss in zip(self.settings.grid(), found.losses, strict=False)
        )
        os.truncate(self.path, size)
        return len(found.losses)


def read_landscapes(folder: Path) -> list[LandscapePoints]:
    """All landscapes of a run, the best last: whole ones, then those of later checkpoints."""
    found = []
    for path in sorted(folder.glob(landscape_file("*"))) if folder.is_dir() else []:
        try:
            points = _parse(path.read_bytes())
        except OSError:
            continue
        if points is not None:
            found.append(points)
    return sorted(
        found,
        key=lambda p: (p.is_whole, p.settings.step or 0, p.settings.points, len(p.losses)),
    )


def _line(point: tuple[float, float], loss: float) -> bytes:
    return (dump_json({"x": point[0], "y": point[1], "loss": loss}) + "\n").encode()


def _parse(content: bytes) -> LandscapePoints | None:
    """The landscape in a file's bytes, up to its first line that is not as it should be."""
    first, *lines = content.split(b"\n")
    try:
        row = json.loads(first)
        del row["landscape"]
        settings = LandscapeSettings(**row)
        whole = settings.line() == first + b"\n" and settings.points > 1 and lines
    except (ValueError, TypeError, KeyError):
        return None
    if not whole:
        return None
    losses = []
    # What follows the last line's end is empty, or a line that was cut.
    for point, line in zip(settings.grid(), lines[:-1], strict=False):
        try:
            loss = float(json.loads(line)["loss"])
        except (ValueError, TypeError, KeyError):
            break
        if line + b"\n" != _line(point, loss):
            break
        losses.append(loss)
    return LandscapePoints(settings, tuple(losses))
