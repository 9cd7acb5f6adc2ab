"""Records (JSON objects, rows of a Parquet file) into documents.

In: a mapping of field names to values, and what to call its place. Out: its document, made of the
text field or, with a chat template, of the conversation that the record is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fromscratch.chat.conversations import (
    NotAConversation,
    looks_like_a_conversation,
    messages_of,
)
from fromscratch.chat.rendering import render_text, text_template
from fromscratch.data.documents import Document
from fromscratch.data.reading import BadInput, Input, SourceReport, bad_input

ID_FIELDS = ("id", "url", "file_path")
"""What a record may call itself, the first that is a text or a whole number; FineWeb's names."""

_ABSENT = object()


def document_of(
    record: Any, item: Input, report: SourceReport, *, position: str, number: int
) -> Document | None:
    """The record's document; None where it has none, which was then said.

    A record whose text is empty or white space is skipped and listed.

    Args:
        record: What the file holds at this place; not always a mapping.
        item: The file.
        report: Told what is left out.
        position: The place in the file, for messages: `line 3`.
        number: The record's place among the file's, from 0: it is called that where it has no name.

    Raises:
        UserError: The record is bad, and the reading says to stop.
    """
    try:
        if not isinstance(record, Mapping):
            raise BadInput(position, f"is {_kind(record)}, not an object with fields")
        text = _text(record, item, position)
    except BadInput as error:
        bad_input(item, report, error)
        return None
    if not text or text.isspace():
        report.skip(f"{item.label}, {position}", "empty")
        return None
    return Document(text, _name(record) or f"{item.label}#{number}", item.name)


def missing_field(name: str, present: list[str], *, conversation: bool, position: str) -> BadInput:
    """What to say when the text field is not there."""
    shown = ", ".join(present[:20]) + (" ..." if len(present) > 20 else "")
    return BadInput(
        position,
        f'has no field "{name}"; it has {shown or "none"}',
        "These look like instructions: render them with --render alpaca, or choose another --field."
        if conversation
        else "Choose the one that holds the text with --field.",
    )


def value_at(record: Mapping[str, Any], name: str) -> Any:
    """The field's value, `a.b` being the field `b` inside `a` where no field is called `a.b`."""
    if name in record:
        return record[name]
    outer, dot, inner = name.partition(".")
    if dot and isinstance(record.get(outer), Mapping):
        return value_at(record[outer], inner)
    return _ABSENT


def _text(record: Mapping[str, Any], item: Input, position: str) -> str:
    reading = item.reading
    if reading.render is not None:
        try:
            messages = messages_of(record)
        except NotAConversation as error:
            raise BadInput(position, str(error)) from None
        return _bounded(render_text(text_template(reading.render), messages), item, position)
    value = value_at(record, reading.field)
    if value is _ABSENT:
        raise missing_field(
            reading.field,
            [str(name) for name in record],
            conversation=looks_like_a_conversation(record),
            position=position,
        )
    if not isinstance(value, str):
        raise BadInput(position, f'the field "{reading.field}" is {_kind(value)}, not text')
    return _bounded(value, item, position)


def _bounded(text: str, item: Input, position: str) -> str:
    limit = item.reading.max_document_bytes
    if len(text) > limit:
        raise BadInput(position, f"longer than one document may be ({limit:,} characters)")
    return text


def _name(record: Mapping[str, Any]) -> str | None:
    for field in ID_FIELDS:
        value = record.get(field)
        if isinstance(value, (str, int)) and not isinstance(value, bool) and value != "":
            return str(value)
    return None


def _kind(value: Any) -> str:
    """The value's kind in JSON's words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "a string"
    if isinstance(value, bytes):
        return "bytes"
    return "an object" if isinstance(value, Mapping) else "a list"
