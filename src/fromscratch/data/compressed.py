"""Files as streams of bytes, whether plain, gzip or zstd.

In: a file. Out: a `ByteStream` over its content, decompressed as it is read, a bounded piece at a
time. What is wrong with the compression is reported with the place up to which the content was
sound, and everything before that place is handed out first.
"""

from __future__ import annotations

import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fromscratch.data.reading import BadInput, Input

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

COMPRESSED_SUFFIXES = (".gz", ".zst")

BLOCK_BYTES = 1 << 20


class ByteStream:
    """A file's content, read forwards.

    Args:
        path: Opened at once.
        suffix: With `.gz` or `.zst`, the content is what was compressed.

    Attributes:
        position: Bytes of content handed out so far.

    Raises:
        OSError: The file cannot be opened or read.
        BadInput: The compressed content is damaged or cut off.
    """

    def __init__(self, path: Path, suffix: str) -> None:
        self.position = 0
        if path.stat().st_size == 0:  # empty, whatever it is called
            suffix = ""
        self._suffix = suffix
        self._size = max(1, path.stat().st_size)
        # Closed by `close`, as this very object is opened by `open_bytes` alone.
        self._raw = open(path, "rb")  # noqa: SIM115
        self._file: gzip.GzipFile | zstd.ZstdFile | io.BufferedReader
        if suffix == ".gz":
            self._file = gzip.GzipFile(fileobj=self._raw, mode="rb")
        elif suffix == ".zst":
            self._file = zstd.ZstdFile(self._raw, "rb")
        else:
            self._file = self._raw

    def read(self, size: int) -> bytes:
        """Some bytes, at most `size`, and none only at the end."""
        try:
            piece = self._file.read1(size)
        except (EOFError, zlib.error, gzip.BadGzipFile, zstd.ZstdError) as error:
            raise self._damaged(error) from None
        self.position += len(piece)
        return piece

    def read_line(self, limit: int) -> bytes:
        """The next line with its end, or its first `limit` bytes; nothing at the end."""
        try:
            line = self._file.readline(limit)
        except (EOFError, zlib.error, gzip.BadGzipFile, zstd.ZstdError) as error:
            raise self._damaged(error) from None
        self.position += len(line)
        return line

    def share(self) -> float:
        """How much of the file on the disk has been read, from 0 to 1."""
        return 1.0 if self._raw.closed else min(1.0, self._raw.tell() / self._size)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
        self._raw.close()

    def _damaged(self, error: Exception) -> BadInput:
        kind = {".gz": "gzip", ".zst": "zstd"}[self._suffix]
        where = f"after {self.position:,} bytes of its content" if self.position else ""
        if isinstance(error, EOFError):
            return BadInput(where, f"the {kind} file is cut off", "Download or copy it again.")
        return BadInput(
            where, f"damaged, or not a {kind} file ({error})", "Download or copy it again."
        )


@contextmanager
def open_bytes(item: Input) -> Iterator[ByteStream]:
    """The file's `ByteStream`, closed at the end; its label's suffix tells the compression."""
    stream = ByteStream(item.path, Path(item.label).suffix.lower())
    try:
        yield stream
    finally:
        stream.close()


def plain_suffix(name: str) -> str:
    """The suffix of what a file holds: `.json` for `x.json` and for `x.json.gz`."""
    # Not by Path, which takes several times as long: there may be a million names.
    last = name.rpartition("/")[2].lower()
    for suffix in COMPRESSED_SUFFIXES:
        if last.endswith(suffix):
            last = last.removesuffix(suffix)
            break
    stem, dot, suffix = last.rpartition(".")
    return dot + suffix if stem else ""
