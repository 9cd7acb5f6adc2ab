"""The file of a conversation: records that finetuning reads, and that are loaded to go on.

In: records, as `dialogue.py` makes them. Out: a JSON array, or lines added to a file of JSON lines.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import append_json_line, dump_json, write_atomically

_LINES = (".jsonl", ".ndjson")


def save_records(path: Path, records: Sequence[dict[str, Any]], *, replace: bool) -> bool:
    """Writes records so that finetuning, and `load_record`, can read them.

    Args:
        path: `.jsonl` and `.ndjson`: the records are added to what is there, one a line. Else: a
            JSON array with these records.
        records: At least one.
        replace: Whether a file that is there may be written over.

    Returns:
        Whether they were added to what was there.

    Raises:
        UserError: A file is there that must not be replaced, or it cannot be written.
    """
    lines = path.suffix.lower() in _LINES
    if not lines and not replace and path.exists():
        raise UserError(
            f"{path} exists.",
            fix="Name another file; to one that ends in .jsonl, conversations are added.",
        )
    try:
        if lines:
            for record in records:
                append_json_line(path, record)
        else:
            write_atomically(path, dump_json(list(records), indent=2) + "\n")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}).") from None
    return lines


def load_record(path: Path) -> Any:
    """The last record of a file that `save_records` wrote, or of any instruction file.

    Raises:
        UserError: It cannot be read, is not JSON, or is empty.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UserError(f"{path} cannot be read ({reason}).") from None
    if path.suffix.lower() in _LINES:
        text = "[" + ",".join(line for line in text.split("\n") if line.strip()) + "]"
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not readable JSON ({error}).") from None
    if isinstance(content, list):
        if not content:
            raise UserError(f"{path} has no conversation in it.")
        return content[-1]
    return content
