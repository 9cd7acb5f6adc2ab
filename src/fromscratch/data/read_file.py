"""One file of any kind into documents: the reader is chosen by the file's suffix.

In: a path, and what to call it. Out: its documents. `.parquet`; `.jsonl`, `.ndjson` and `.json`
(one object a line, or one array of objects); everything else is text; the JSON and text kinds also
as `.gz` and `.zst`. Shards of somebody else's tokens are read where the caller has a tokenizer.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from fromscratch.data.compressed import plain_suffix
from fromscratch.data.documents import Document
from fromscratch.data.foreign_shards import SHARD_SUFFIXES, read_shard
from fromscratch.data.json_files import is_one_object, read_json_file
from fromscratch.data.parquet import Stretch, read_parquet_file
from fromscratch.data.reading import BadInput, Input, Reading, SourceReport, bad_input
from fromscratch.data.text_files import read_text_file
from fromscratch.tokenizer.tokenizer import Tokenizer

Kind = Literal["text", "json", "parquet", "shard"]


def kind_of(label: str) -> Kind:
    """What a file of this name holds."""
    suffix = plain_suffix(label)
    if suffix in (".jsonl", ".ndjson", ".json"):
        return "json"
    if suffix == ".parquet":
        return "parquet"
    return "shard" if label.lower().endswith(SHARD_SUFFIXES) else "text"


def read_file(
    path: Path,
    name: str,
    reading: Reading,
    report: SourceReport,
    *,
    label: str | None = None,
    named: bool = True,
    tokenizer: Tokenizer | None = None,
    stretch: Stretch | None = None,
) -> Iterator[Document]:
    """Yields one file's documents in a fixed order, in bounded memory.

    Args:
        path: The file.
        name: Of the source.
        reading: How to read it.
        report: Told what was read and what was left out.
        label: What messages and ids call the file, and by whose suffixes it is read; its path
            where not given.
        named: Whether the user named this very file: then a binary one is bad, and not skipped.
        tokenizer: Given where shards of tokens are to be read as such; else they are binary files.
        stretch: A part of a Parquet file; None for all of it.

    Raises:
        UserError: Something in it is bad, and the reading says to stop.
    """
    item = Input(path, label or str(path), name, reading, named)
    try:
        kind = kind_of(item.label)
        if kind == "shard" and tokenizer is not None:
            yield from read_shard(item, report, tokenizer)
        elif kind == "parquet":
            yield from read_parquet_file(item, report, stretch)
        elif kind == "json" and not _is_text_after_all(item):
            yield from read_json_file(item, report)
        elif reading.record is not None:
            if named:
                raise BadInput("", "holds no records", "Give JSON, JSON lines or Parquet.")
            report.skip(item.label, "holds no records")
        else:
            yield from read_text_file(item, report)
    except BadInput as error:
        bad_input(item, report, error)
    except OSError as error:
        bad_input(item, report, BadInput("", f"cannot be read ({error.strerror or error})"))


def _is_text_after_all(item: Input) -> bool:
    """Whether a `.json` file that was merely found in a folder is no records but, say, settings."""
    return not item.named and item.label.lower().endswith(".json") and is_one_object(item)
