"""A JSON-lines file read as it grows, also when it is cut or rewritten under the reader.

In: a path, again and again. Out: the lines that are new since the last time, with their numbers.
What always holds: a line is handed out once it is complete, and only once, unless the file was
replaced or shortened (a resume drops rows): then the reader says so and begins anew.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# What was read last is compared with this much of the file to see that it is still the same one.
_MARK = 256


@dataclass(frozen=True)
class Fresh:
    """What a look at the file brought.

    Attributes:
        again: What was handed out before no longer counts.
        rows: Line numbers, 1-based, and the objects that stand there.
        broken: Line numbers of complete lines that are no JSON object, with what is wrong.
        cut: The number of a last line that is not complete yet; None if there is none.
        trouble: Why the file could not be read; empty if it could.
    """

    again: bool = False
    rows: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    broken: list[tuple[int, str]] = field(default_factory=list)
    cut: int | None = None
    trouble: str = ""


class GrowingLines:
    """Follows one file.

    Args:
        path: Need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._forget()

    def _forget(self) -> None:
        self._file: tuple[int, int] | None = None
        self._offset = 0
        self._line = 0
        self._mark = b""
        # The last line was complete but for its end, which may follow.
        self._open_end = False

    def read(self) -> Fresh:
        """The lines since the last call; never raises."""
        before = self._file is not None
        try:
            with open(self.path, "rb") as handle:
                status = os.fstat(handle.fileno())
                again = before and not self._is_the_same(handle.fileno(), status)
                if again:
                    self._forget()
                self._file = (status.st_dev, status.st_ino)
                handle.seek(self._offset)
                fresh = Fresh(again=again)
                cut = None
                for raw in handle:
                    cut = self._take(raw, fresh)
                return Fresh(again, fresh.rows, fresh.broken, cut)
        except FileNotFoundError:
            trouble = "is not there"
        except OSError as error:
            trouble = f"could not be opened ({error.strerror})"
        self._forget()
        return Fresh(again=before, trouble=trouble)

    def _is_the_same(self, descriptor: int, status: os.stat_result) -> bool:
        if (status.st_dev, status.st_ino) != self._file or status.st_size < self._offset:
            return False
        os.lseek(descriptor, self._offset - len(self._mark), os.SEEK_SET)
        return os.read(descriptor, len(self._mark)) == self._mark

    def _take(self, raw: bytes, fresh: Fresh) -> int | None:
        """Puts a line where it belongs; returns its number if it is not complete."""
        if self._open_end and raw in (b"\n", b"\r\n"):
            self._consume(raw)
            self._open_end = False
            return None
        self._open_end = False
        number = self._line + 1
        row, wrong = _parsed(raw)
        if not raw.endswith(b"\n"):
            if row is None:
                return number  # it may go on
            self._open_end = True
        self._line = number
        self._consume(raw)
        if row is not None:
            fresh.rows.append((number, row))
        elif wrong:
            fresh.broken.append((number, wrong))
        return None

    def _consume(self, raw: bytes) -> None:
        self._offset += len(raw)
        self._mark = (self._mark + raw)[-_MARK:]


def _parsed(raw: bytes) -> tuple[dict[str, Any] | None, str]:
    """The object on a line, or what is wrong with it; neither for a blank one."""
    if raw.isspace():
        return None, ""
    # ValueError covers bad JSON, bad UTF-8 and integers of absurd length.
    try:
        row = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        return None, "no JSON"
    if isinstance(row, Mapping):
        return dict(row), ""
    return None, "not a JSON object"
