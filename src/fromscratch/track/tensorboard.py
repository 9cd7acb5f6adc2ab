"""A run in TensorBoard: scalars, samples and events as text, the recipe.

The event file is written record by record with TensorBoard's own writer, without TensorFlow and
without torch. It is made anew from the run's files by each session: TensorBoard's own way to drop
rows past a resumed step knows whole steps only, and forgets nothing that a kill had kept back.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from fromscratch.foundation.files import dump_json

if TYPE_CHECKING:
    from tensorboard.summary.writer.record_writer import RecordWriter

_EVENT_FILES = "events.out.tfevents."


class TensorBoardSink:
    """Writes event files.

    Args:
        folder: What `tensorboard --logdir` is given, or one of several in it.
        recipe: Shown as text.
    """

    def __init__(self, folder: Path, recipe: dict[str, Any]) -> None:
        self._folder = folder
        self._recipe = recipe
        self._writer: RecordWriter | None = None
        self._began: float | None = None

    def open(self) -> int:
        """Begins a new file in place of those before."""
        self._began = None
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._folder.mkdir(parents=True, exist_ok=True)
        for old in self._folder.glob(f"{_EVENT_FILES}*"):
            old.unlink()
        name = f"{_EVENT_FILES}{time.time():017.6f}.{socket.gethostname()}.{os.getpid()}"
        self._writer = RecordWriter(open(self._folder / name, "wb"))  # noqa: SIM115
        self._write(file_version="brain.Event:2")
        # A TensorBoard that is open forgets what it has read from the files before.
        self._write(step=0, session_log=SessionLog(status=SessionLog.START))
        recipe = tomli_w.dumps(_without_none(self._recipe))
        self._text(0, "recipe", f"```toml\n{recipe}```")
        return 0

    def numbers(self, step: int, values: dict[str, float], seconds: float | None) -> None:
        """Adds scalars, at the moment of the training time: pauses between sessions do not show."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        if seconds is not None and self._began is None:
            self._began = time.time() - seconds
        moment = None if seconds is None or self._began is None else self._began + seconds
        scalars = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._write(moment, step=step, summary=Summary(value=scalars))
        self.flush()  # somebody may be watching

    def sample(self, step: int, prompt: str, text: str) -> None:
        """Adds a sample under its prompt's name."""
        tag = f"samples/{' '.join(prompt.split())[:40] or 'unprompted'}"
        # Indented: TensorBoard reads Markdown, and would take a sample's own signs for it.
        self._text(step, tag, "".join(f"    {line}\n" for line in (prompt + text).split("\n")))

    def event(self, step: int, name: str, message: str, details: Mapping[str, Any]) -> None:
        """Adds an event as text."""
        more = f"\n\n```json\n{dump_json(dict(details), indent=2)}\n```" if details else ""
        self._text(step, f"events/{name}", f"{message}{more}")

    def flush(self) -> None:
        """Writes what the file holds back."""
        assert self._writer is not None
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        assert self._writer is not None
        self._writer.close()

    def _text(self, step: int, tag: str, text: str) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto
        from tensorboard.compat.proto.types_pb2 import DT_STRING
        from tensorboard.plugins.text.plugin_data_pb2 import TextPluginData

        metadata = SummaryMetadata(
            plugin_data=SummaryMetadata.PluginData(
                plugin_name="text", content=TextPluginData(version=0).SerializeToString()
            )
        )
        tensor = TensorProto(
            dtype=DT_STRING,
            string_val=[text.encode("utf-8", "replace")],
            tensor_shape=TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)]),
        )
        value = Summary.Value(tag=tag, metadata=metadata, tensor=tensor)
        self._write(step=step, summary=Summary(value=[value]))

    def _write(self, moment: float | None = None, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        assert self._writer is not None
        event = Event(wall_time=time.time() if moment is None else moment, **content)
        self._writer.write(event.SerializeToString())


def _without_none(value: Any) -> Any:
    """`value` as TOML can say it."""
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value if item is not None]
    return value
