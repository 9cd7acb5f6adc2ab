"""TensorBoard's event files, read with TensorBoard's own reader.

A tag is a name of keys.py (`train/loss`, `eval/loss`, `Loss/val`, `train_loss`); all that was
written for one step becomes one row. Text whose tag speaks of samples becomes samples. Each file is
a session. A file that a kill has cut, or a disk has damaged, is read up to there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fromscratch.foundation.errors import UserError
from fromscratch.logs.items import (
    Fact,
    Item,
    Progress,
    Restart,
    Samples,
    SessionStart,
    Text,
    Unread,
)
from fromscratch.logs.keys import plain, rows_of
from fromscratch.logs.numerals import moment

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

_TAGS = 100
_MARK = b"brain.Event:"
_STRING = 7  # DT_STRING of tensorflow/core/framework/types.proto
# A record is its length, two checksums and the content.
_FRAME = 8 + 4 + 4


class TensorBoard:
    """The format."""

    name = "tensorboard"
    about = "TensorBoard's event files"
    first_step = 1
    restart: Restart = "another run"

    def matches(self, path: Path, most_bytes: int | None) -> int:
        with open(path, "rb") as file:
            return 1 if _MARK in file.read(64) else 0

    def read(self, path: Path, progress: Progress) -> Iterator[Item]:
        try:
            from google.protobuf.message import DecodeError
            from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
            from tensorboard.compat.proto.event_pb2 import Event
        except ImportError:
            raise UserError(
                f"{path} is a TensorBoard file, which TensorBoard's own reader reads.",
                fix="Install it: pip install 'fromscratch[track]'",
            ) from None
        yield SessionStart(f"file {path.name}")
        read, unused = 0, set[str]()
        for record in RawEventFileLoader(str(path)).Load():
            read += _FRAME + len(record)
            progress(_FRAME + len(record))
            try:
                event = Event.FromString(record)
            except DecodeError:
                yield Unread(None, f"the record before byte {read:,} is no event", "", True)
                continue
            yield from _items(event, unused)
        if unused:
            yield Fact("tags_without_a_place", sorted(unused)[:_TAGS])
        left = path.stat().st_size - read
        if left > 0:
            why = f"the record at byte {read:,} is cut off or damaged; {left:,} bytes were not read"
            yield Unread(None, why, "", True)


def _items(event: Event, unused: set[str]) -> Iterator[Item]:
    scalars: dict[str, Any] = {}
    time = moment(event.wall_time)
    for value in event.summary.value:
        number = _scalar(value)
        if number is not None:
            scalars[value.tag] = number
        elif "sample" in plain(value.tag) or "generat" in plain(value.tag):
            yield from _sample(value, event.step, time)
    if scalars and event.step >= 0:
        items = list(rows_of(scalars | {"step": event.step, "wall_time": time}))
        yield from items
        if not items and len(unused) < _TAGS:
            unused.update(scalars)


def _scalar(value: Summary.Value) -> float | None:
    """The number of a scalar in the form of old (`simple_value`) or new writers (a tensor)."""
    kind = value.WhichOneof("value")
    if kind == "simple_value":
        # Of 32 bits: 0.001, not 0.0010000000474974513.
        return float(str(np.float32(value.simple_value)))
    if kind != "tensor" or value.tensor.dtype == _STRING:
        return None
    if value.metadata.plugin_data.plugin_name not in ("", "scalars"):
        return None
    from tensorboard.util.tensor_util import make_ndarray

    array = make_ndarray(value.tensor)
    return float(array.reshape(-1)[0]) if array.size == 1 else None


def _sample(value: Summary.Value, step: int, time: str | None) -> Iterator[Item]:
    if value.WhichOneof("value") != "tensor":
        return
    text = b"\n".join(value.tensor.string_val).decode("utf-8", "replace")
    if text and step >= 0:
        prompt = value.tag.partition("/")[2].removesuffix("/text_summary")
        yield Samples(step, (Text(f"({prompt}) " if prompt else "", text),), time)
