"""JSON files into documents: one object a line, or one array of objects.

In: `.jsonl`, `.ndjson` or `.json`, plain or compressed. Out: a document for each object. Memory is
bounded by the longest record, and that by the reading's `max_document_bytes`: what is longer is bad
input, and is passed over without being held.

A bad line costs that line; in an array, nothing behind a place that does not parse can be trusted.
Where an object has a key twice, the last one counts.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import Any

from fromscratch.data.compressed import BLOCK_BYTES, ByteStream, open_bytes
from fromscratch.data.documents import Document
from fromscratch.data.reading import BadInput, Input, SourceReport, bad_input
from fromscratch.data.records import document_of
from fromscratch.data.text_files import decoded, not_utf8

_FIRST_BYTES = 65_536
# How much may be missing of a word, a number's sign or an escape that the end of a block cut off.
_CUT_OFF = 16


def read_json_file(item: Input, report: SourceReport) -> Iterator[Document]:
    """Yields the documents of a JSON file, in the file's order.

    Raises:
        BadInput: Nothing more can be read of it.
        UserError: A record is bad, and the reading says to stop.
        OSError: It cannot be read.
    """
    with open_bytes(item) as stream:
        first = stream.read(_FIRST_BYTES).removeprefix(codecs.BOM_UTF8)
        if not first.strip():
            report.skip(item.label, "empty")
            return
    with open_bytes(item) as stream:
        report.share = stream.share
        if first.lstrip().startswith(b"["):
            yield from _array(stream, item, report)
        else:
            yield from _lines(stream, item, report)
    report.files += 1


def is_one_object(item: Input) -> bool:
    """Whether a `.json` file is one object over several lines, such as a program's settings.

    Such a file holds no records. Only its beginning is read.

    Raises:
        OSError: It cannot be read.
    """
    with open_bytes(item) as stream:
        first = stream.read(_FIRST_BYTES).removeprefix(codecs.BOM_UTF8).lstrip()
    line, line_end, rest = first.partition(b"\n")
    if not line.startswith(b"{") or not line_end or not rest.strip():
        return False
    try:
        json.loads(line)
    except ValueError:
        return True
    return False


def _lines(stream: ByteStream, item: Input, report: SourceReport) -> Iterator[Document]:
    limit = item.reading.max_document_bytes
    number, head = 0, b""
    while True:
        start = stream.position
        try:
            line = stream.read_line(limit + 1)
        except BadInput as error:
            raise BadInput(f"line {number + 1}", error.what, error.fix) from None
        if not line:
            return
        number += 1
        if number == 1:
            head = line[:4]
            line = line.removeprefix(codecs.BOM_UTF8)
            start = stream.position - len(line)
        try:
            if len(line) > limit and not line.endswith(b"\n"):
                size = len(line) + _rest_of_line(stream)
                raise BadInput(
                    f"line {number}",
                    f"has {size:,} bytes, more than one document may have ({limit:,})",
                )
            record = _parsed(line, number, start, head)
        except BadInput as error:
            bad_input(item, report, error)
            if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                return  # all of it will be so
            continue
        if record is _BLANK:
            continue
        document = document_of(record, item, report, position=f"line {number}", number=number - 1)
        if document is not None:
            yield document


_BLANK = object()


def _parsed(line: bytes, number: int, start: int, head: bytes) -> Any:
    """The line's value, or `_BLANK`.

    Raises:
        BadInput: It is not UTF-8 or not JSON.
    """
    try:
        text = line.rstrip(b"\r\n").decode("utf-8")
    except UnicodeDecodeError as error:
        raise not_utf8(start + error.start, head, number) from None
    if not text.strip():
        return _BLANK
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        where = f"line {number}, column {error.colno}"
        raise BadInput(where, f"not JSON ({error.msg})", "Each line is to be one object.") from None
    except (RecursionError, ValueError) as error:  # too many brackets, too many digits
        raise BadInput(f"line {number}", f"cannot be parsed ({error})") from None


def _rest_of_line(stream: ByteStream) -> int:
    """Passes over the rest of a line, and returns how many bytes that was."""
    size = 0
    while piece := stream.read_line(BLOCK_BYTES):
        size += len(piece)
        if piece.endswith(b"\n"):
            break
    return size


def _array(stream: ByteStream, item: Input, report: SourceReport) -> Iterator[Document]:
    blocks = decoded(stream, stream.read(BLOCK_BYTES))
    for number, record in enumerate(_values(blocks, item.reading.max_document_bytes)):
        document = document_of(record, item, report, position=f"record {number + 1}", number=number)
        if document is not None:
            yield document


def _values(blocks: Iterator[str], limit: int) -> Iterator[Any]:
    """The values of a JSON array, one by one as its text comes in.

    Raises:
        BadInput: It does not parse, or a value is longer than `limit` characters.
    """
    text = _Window(blocks)
    text.expect("[", 0)
    if text.next_character() == "]":
        text.expect("]", 0)
    else:
        number = 1
        while True:
            yield text.value(number, limit)
            if text.next_character() != ",":
                break
            text.expect(",", number)
            number += 1
        text.expect("]", number)
    if text.next_character():
        raise BadInput(f"character {text.place}", "goes on after the array's end")


class _Window:
    """A text that comes in blocks, of which only what is being parsed is held."""

    def __init__(self, blocks: Iterator[str]) -> None:
        self._blocks = blocks
        self._text, self._at, self._before = "", 0, 0
        self._decoder = json.JSONDecoder()

    @property
    def place(self) -> int:
        """Characters of the whole text before the next one."""
        return self._before + self._at

    def next_character(self) -> str:
        """The next character that is not white space, which stays the next; "" at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in " \t\r\n":
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more(1):
                return ""

    def expect(self, character: str, number: int) -> None:
        """Steps over the next character, which must be this one."""
        found = self.next_character()
        if found != character:
            what = f"has {found!r} where {character!r} is due" if found else "is cut off"
            raise BadInput(f"character {self.place}, after record {number}", what)
        self._at += 1

    def value(self, number: int, limit: int) -> Any:
        """The next value, however many blocks it takes."""
        self.next_character()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                bad = BadInput(
                    f"record {number}, character {self._before + error.pos}",
                    f"not JSON ({error.msg})",
                )
                unfinished = error.msg.startswith("Unterminated")
                if not unfinished and error.pos < len(self._text) - _CUT_OFF:
                    raise bad from None
                if len(self._text) - self._at > limit:
                    raise BadInput(
                        f"record {number}",
                        f"longer than one document may be ({limit:,} characters)",
                    ) from None
                if not self._more(1 + len(self._text) - self._at):
                    raise bad from None
            except (RecursionError, ValueError) as error:
                raise BadInput(f"record {number}", f"cannot be parsed ({error})") from None
            else:
                # A number near the end of what is held may go on in the next block.
                near = end > len(self._text) - _CUT_OFF and isinstance(value, (int, float))
                if near and self._more(1):
                    continue
                self._at = end
                return value

    def _more(self, wanted: int) -> bool:
        """Takes in at least `wanted` more characters if there are any; False if there are none."""
        parts = [self._text[self._at :]]
        size = 0
        while size < wanted and (block := next(self._blocks, None)) is not None:
            parts.append(block)
            size += len(block)
        if size:
            self._before += self._at
            self._text, self._at = "".join(parts), 0
        return size > 0
