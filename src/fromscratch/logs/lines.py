"""A log file as lines of text, whatever a terminal, an editor or a crash has done to it.

In: a file of any size, plain or gzip. Out: its lines, one at a time, without colour codes; each
state of a progress bar (what stands between carriage returns) is a line of its own under the same
number. Bytes that are no UTF-8 become U+FFFD. Nothing inside a file makes this raise.
"""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from fromscratch.logs.items import Item, Progress, Unread

# No record is longer; a binary file may have no line ends at all.
LONGEST_LINE = 1 << 20
_SHOWN = 120
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a log.

    Attributes:
        number: From 1, as an editor counts.
        text: Without its end.
        whole: Whether it had an end; the last line of a killed process may have none.
        problem: Why it could not be read, if so.
    """

    number: int
    text: str
    whole: bool = True
    problem: str | None = None

    def unread(self, why: str, *, damaged: bool = True) -> Unread:
        """This line as one that gave nothing."""
        return Unread(self.number, why, self.text.strip()[:_SHOWN], damaged)


def lines(
    path: Path, progress: Progress = lambda _: None, *, most_bytes: int | None = None
) -> Iterator[Line]:
    """The file's lines.

    Args:
        path: The file.
        progress: Told the bytes of the file as they are read.
        most_bytes: Stop after about so many bytes of content; None reads all of it.

    Raises:
        OSError: The file cannot be opened or read.
    """
    with open(path, "rb") as raw:
        counted = _Counting(raw, progress)
        number, done = 0, 0
        try:
            for number, (content, whole, cut) in enumerate(_pieces(counted), start=1):
                yield from _cleaned(number, content, whole, cut)
                done += len(content)
                if most_bytes is not None and done >= most_bytes:
                    return
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            yield Line(number + 1, "", problem=f"the compressed file is damaged ({error})")


def looks_binary(path: Path) -> bool:
    """Whether the file is no text: it has a zero byte near its start, and no UTF-16 mark."""
    with open(path, "rb") as file:
        head = file.read(4096)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, b"\x1f\x8b")):
        return False
    return b"\0" in head


class _Counting(io.RawIOBase):
    """A file that tells how much of it has been read."""

    def __init__(self, raw: BinaryIO, progress: Progress) -> None:
        self._raw = raw
        self._progress = progress

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        content = self._raw.read(len(buffer))
        buffer[: len(content)] = content
        self._progress(len(content))
        return len(content)


def _pieces(counted: _Counting) -> Iterator[tuple[str, bool, bool]]:
    """(content, whether it had an end, whether it was too long to be kept whole)."""
    buffered: io.BufferedReader[Any] = io.BufferedReader(counted, 1 << 18)
    start = buffered.peek(4)[:4]
    if start.startswith(b"\x1f\x8b"):
        buffered = io.BufferedReader(gzip.GzipFile(fileobj=buffered))
        start = buffered.peek(4)[:4]
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):  # PowerShell's `>`
        text = io.TextIOWrapper(buffered, "utf-16", errors="replace", newline="\n")
        while line := text.readline(LONGEST_LINE):
            yield line, line.endswith("\n"), False
        return
    if start.startswith(codecs.BOM_UTF8):
        buffered.read(3)
    while raw := buffered.readline(LONGEST_LINE):
        cut = len(raw) == LONGEST_LINE and not raw.endswith(b"\n")
        end = raw
        while cut and end and not end.endswith(b"\n"):
            end = buffered.readline(LONGEST_LINE)
        yield raw.decode("utf-8", "replace"), (end or raw).endswith(b"\n"), cut


def _cleaned(number: int, content: str, whole: bool, cut: bool) -> Iterator[Line]:
    if cut:
        yield Line(number, content[:_SHOWN], whole, f"longer than {LONGEST_LINE:,} bytes")
        return
    text = content.rstrip("\r\n")
    if "\x1b" in text:
        text = _ESCAPES.sub("", text)
    if "\0" in text:  # what a crash leaves in place of blocks that never reached the disk
        text = text.replace("\0", "")
    if "\r" not in text:
        yield Line(number, text, whole)
        return
    for state in text.split("\r"):
        if state.strip():
            yield Line(number, state, whole)


class LineParser:
    """Reads a log line by line; one for each file.

    A subclass says in `line` what a line gives, and in `end` what was still held back.
    """

    def line(self, line: Line) -> Iterator[Item]:
        """The items that this line completes."""
        raise NotImplementedError

    def end(self) -> Iterator[Item]:
        """The items that only the end of the file completes."""
        return iter(())

    def read(self, source: Iterator[Line]) -> Iterator[Item]:
        """The items of all lines."""
        for line in source:
            if line.problem is not None:
                yield line.unread(line.problem)
            else:
                yield from self.line(line)
        yield from self.end()
