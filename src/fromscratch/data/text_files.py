"""Plain text files into documents.

In: a file of UTF-8, plain or compressed. Out: one document for the whole file, or its passages or
paragraphs. CRLF becomes LF, a byte order mark at the start is dropped, and nothing else is changed.
In passages and paragraphs memory does not grow with the file; a whole file is bounded by the
reading's `max_document_bytes`.

Always so, whatever the reading says: an empty file is skipped and listed, and so is a binary one,
unless the user named that very file.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator

from fromscratch.data.compressed import BLOCK_BYTES, ByteStream, open_bytes
from fromscratch.data.cutting import cut_into_paragraphs, cut_into_passages
from fromscratch.data.documents import Document
from fromscratch.data.reading import BadInput, Input, SourceReport

_HEAD_BYTES = 8_192
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text_file(item: Input, report: SourceReport) -> Iterator[Document]:
    """Yields a text file's documents.

    Raises:
        BadInput: It is not UTF-8, is binary though it was named, is too large to be one document,
            or its compression is damaged. Passages and paragraphs before that place came out.
        OSError: It cannot be read.
    """
    with open_bytes(item) as stream:
        report.share = stream.share
        head = stream.read(BLOCK_BYTES)
        if _is_binary(head, item):
            report.skip(item.label, "binary")
            return
        count = 0
        try:
            for document in documents_of(decoded(stream, head), item):
                count += 1
                yield document
        except BadInput as error:
            place = error.position or f"before byte {stream.position}"
            raise BadInput(place, error.what, error.fix) from None
    if count:
        report.files += 1
    else:
        report.skip(item.label, "empty")


def documents_of(blocks: Iterator[str], item: Input) -> Iterator[Document]:
    """The documents that a text is cut into, as the reading says; none of white space alone.

    Raises:
        BadInput: What should be one document is too long.
    """
    limit = item.reading.max_document_bytes
    if item.reading.documents not in ("passage", "paragraph"):
        for text in _whole(blocks, limit):
            if text and not text.isspace():
                yield Document(text, item.label, item.name)
        return
    cut = cut_into_passages if item.reading.documents == "passage" else cut_into_paragraphs
    for number, text in enumerate(cut(blocks, limit)):
        if not text.isspace():
            yield Document(text, f"{item.label}#{number}", item.name)


def decoded(stream: ByteStream, head: bytes) -> Iterator[str]:
    """The stream's text, `head` being its beginning; without byte order mark and CRLF.

    Raises:
        BadInput: A byte that is not UTF-8.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    raw = head.removeprefix(codecs.BOM_UTF8)
    fed = stream.position - len(raw)  # the place of raw's first byte in the content
    held = ""  # a carriage return whose line feed may stand in the next block
    while True:
        pending = len(decoder.getstate()[0])
        try:
            text = decoder.decode(raw, final=not raw)
        except UnicodeDecodeError as error:
            raise not_utf8(fed - pending + error.start, head) from None
        text = held + text
        held = "\r" if raw and text.endswith("\r") else ""
        text = text[: len(text) - len(held)].replace("\r\n", "\n")
        if text:
            yield text
        if not raw:
            return
        fed += len(raw)
        raw = stream.read(BLOCK_BYTES)


def not_utf8(byte: int, head: bytes, line: int | None = None) -> BadInput:
    """What to say of a byte that is not UTF-8, `head` being the file's first bytes."""
    where = f"byte {byte}" if line is None else f"line {line}, byte {byte} of the file"
    if head.startswith(_UTF16_MARKS):
        return BadInput(where, "is UTF-16, not UTF-8", "Convert it: iconv -f UTF-16 -t UTF-8.")
    return BadInput(
        where, "not UTF-8", "If you know its encoding, convert it: iconv -f LATIN1 -t UTF-8."
    )


def looks_empty_or_binary(item: Input) -> bool:
    """Whether a file's beginning says that it will give no document; reads no more than that.

    What is bad about it is not said here, and reading it will.
    """
    try:
        with open_bytes(item) as stream:
            head = stream.read(_HEAD_BYTES)
            return not head.strip() or _is_binary(head, item)
    except (BadInput, OSError):
        return False


def _is_binary(head: bytes, item: Input) -> bool:
    """Whether it is a file to be passed over.

    Raises:
        BadInput: It is binary, and the user named it.
    """
    if b"\x00" not in head[:_HEAD_BYTES]:
        return False
    if head.startswith(_UTF16_MARKS):
        raise not_utf8(0, head)
    if item.named:
        raise BadInput("", "is binary, not text", "Point at UTF-8 text.")
    return True


def _whole(blocks: Iterator[str], limit: int) -> Iterator[str]:
    parts: list[str] = []
    size = 0
    for block in blocks:
        parts.append(block)
        size += len(block)
        if size > limit:
            raise BadInput(
                "",
                f"longer than one document may be ({limit:,} characters)",
                "Cut it into passages: --documents passage.",
            )
    yield "".join(parts)
