"""Parquet files into documents.

In: a file with a column of text, as FineWeb's, or with the columns of instruction data. Out: a
document for each row, in order. Only the wanted columns are read, a few rows at a time.

A file is read in stretches of consecutive row groups, so that work on a large one divides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fromscratch.chat.conversations import RECORD_FIELDS, looks_like_a_conversation
from fromscratch.chat.preferences import (
    PREFERENCE_FIELDS,
    looks_like_a_preference,
    preference_of,
)
from fromscratch.data.documents import Document
from fromscratch.data.reading import BadInput, Input, SourceReport, bad_input
from fromscratch.data.records import ID_FIELDS, document_of, missing_field

_STRETCH_BYTES = 32_000_000
_ROWS = 64
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class Stretch:
    """Consecutive row groups of a file.

    Attributes:
        first: The first one's number.
        end: One more than the last one's.
        size: Bytes of the wanted columns, uncompressed.
    """

    first: int
    end: int
    size: int


def stretches(item: Input) -> list[Stretch] | None:
    """The file in stretches of at least 32 MB of the wanted columns; None to take it as a whole.

    It is one whole where it cannot be read at all or lacks the column: reading it says so once.
    """
    try:
        with _opened(item.path) as file:
            columns = set(_wanted_columns(file, item))
            metadata = file.metadata
            sizes = [_size(metadata.row_group(i), columns) for i in range(metadata.num_row_groups)]
    except (BadInput, OSError, pa.ArrowException):
        return None
    found: list[Stretch] = []
    first = size = 0
    for index, group_size in enumerate(sizes):
        size += group_size
        if size >= _STRETCH_BYTES or index == len(sizes) - 1:
            found.append(Stretch(first, index + 1, size))
            first, size = index + 1, 0
    return found or None


def n_rows(path: Path, stretch: Stretch | None = None) -> int:
    """Rows of a file or of a stretch of it, as the file itself says; 0 of what cannot be read."""
    try:
        with _opened(path) as file:
            groups = range(file.metadata.num_row_groups)
            chosen = groups if stretch is None else groups[stretch.first : stretch.end]
            return sum(file.metadata.row_group(i).num_rows for i in chosen)
    except (OSError, pa.ArrowException):
        return 0


def read_parquet_file(
    item: Input, report: SourceReport, stretch: Stretch | None = None
) -> Iterator[Document]:
    """Yields the documents of a Parquet file, or of a stretch of it.

    Raises:
        BadInput: It is no Parquet file, lacks the column, or is damaged from some row on.
        UserError: A row is bad, and the reading says to stop.
        OSError: It cannot be read.
    """
    if item.path.is_file() and item.path.stat().st_size == 0:
        report.skip(item.label, "empty")
        return
    number = 0
    try:
        with _opened(item.path) as file:
            columns = _wanted_columns(file, item)
            groups = file.metadata.num_row_groups
            chosen = range(groups) if stretch is None else range(stretch.first, stretch.end)
            number = before = sum(file.metadata.row_group(i).num_rows for i in range(chosen.start))
            rows = sum(file.metadata.row_group(i).num_rows for i in chosen) or 1
            report.share = lambda: (number - before) / rows
            if file.metadata.num_rows == 0:
                report.skip(item.label, "empty")
                return
            for batch in file.iter_batches(_ROWS, row_groups=list(chosen), columns=columns):
                for record in _records(batch):
                    position = f"row {number + 1}"
                    if record is None:
                        number += 1
                        bad_input(item, report, BadInput(position, "not UTF-8"))
                        continue
                    document = document_of(record, item, report, position=position, number=number)
                    number += 1
                    if document is not None:
                        yield document
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        where = f"row {number + 1} or soon after" if number else ""
        reason = str(error).strip().split("\n")[0].rstrip(".")
        raise BadInput(
            where, f"damaged, or not a Parquet file ({reason})", "Download or copy it again."
        ) from None
    report.files += 1


def _records(batch: pa.RecordBatch) -> Iterator[dict[str, Any] | None]:
    """The batch's rows; None for one whose text is not UTF-8, which Parquet does not prevent."""
    try:
        yield from batch.to_pylist()
        return
    except UnicodeDecodeError:  # raised before the first row came out
        pass
    for row in range(batch.num_rows):
        try:
            record: dict[str, Any] = batch.slice(row, 1).to_pylist()[0]
        except UnicodeDecodeError:
            yield None
        else:
            yield record


def _opened(path: Path) -> pq.ParquetFile:
    # Without pre-buffering a row group is read page by page, and not into memory as a whole.
    return pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES)


def _wanted_columns(file: pq.ParquetFile, item: Input) -> list[str]:
    """The columns to read, in the file's order.

    Raises:
        BadInput: The file lacks what documents are made of.
    """
    schema, reading = file.schema_arrow, item.reading
    names = list(schema.names)
    ids = [name for name in names if name in ID_FIELDS]
    if reading.render is not None or reading.record is not None:
        fields: tuple[str, ...] = RECORD_FIELDS
        fits, what = looks_like_a_conversation, "a conversation"
        if reading.record is preference_of:
            fits, fields, what = looks_like_a_preference, PREFERENCE_FIELDS, "preferences"
        if not fits(dict.fromkeys(names)):
            shown = ", ".join(names)
            raise BadInput("", f"has no columns of {what}; it has {shown or 'none'}")
        return ids + [name for name in names if name in fields and name not in ids]
    if not _has_column(schema, reading.field):
        raise missing_field(
            reading.field,
            names,
            conversation=looks_like_a_conversation(dict.fromkeys(names)),
            position="",
        )
    return [*ids, reading.field] if reading.field not in ids else ids


def _has_column(schema: pa.Schema, name: str) -> bool:
    if name in schema.names:
        return True
    outer, _, inner = name.partition(".")
    if outer not in schema.names or not pa.types.is_struct(schema.field(outer).type):
        return False
    return _has_column(pa.schema(list(schema.field(outer).type)), inner)


def _size(group: pq.RowGroupMetaData, columns: set[str]) -> int:
    every = (group.column(i) for i in range(group.num_columns))
    wanted = (
        c for c in every if c.path_in_schema in columns or c.path_in_schema.split(".")[0] in columns
    )
    return sum(c.total_uncompressed_size for c in wanted)
