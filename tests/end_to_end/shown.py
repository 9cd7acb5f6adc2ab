"""What a run is shown as elsewhere, read back from the files of TensorBoard and of wandb."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.proto.wandb_internal_pb2 import Record

_BLOCK = 32_768  # of the LevelDB log format, which wandb's files are after 7 bytes of their own


class TensorBoard:
    """What TensorBoard's own reader finds in a folder."""

    def __init__(self, folder: Path) -> None:
        self._found = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
        self._found.Reload()

    def numbers(self) -> dict[str, list[tuple[int, float]]]:
        """Step and value by tag."""
        tags = self._found.Tags()["scalars"]
        return {tag: [(e.step, e.value) for e in self._found.Scalars(tag)] for tag in tags}

    def texts(self) -> dict[str, list[tuple[int, str]]]:
        """Step and text by tag."""
        return {
            tag: [
                (event.step, event.tensor_proto.string_val[0].decode())
                for event in self._found.Tensors(tag)
            ]
            for tag in self._found.Tags()["tensors"]
        }


class Wandb:
    """What an offline folder of wandb holds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (path,) = folder.glob("*.wandb")
        self.identity = path.stem.removeprefix("run-")
        self.history: list[tuple[int, dict[str, Any]]] = []
        self.config: dict[str, Any] = {}
        for content in _records(path.read_bytes()):
            record = Record()
            record.ParseFromString(content)
            kind = record.WhichOneof("record_type")
            if kind == "history":
                items = record.history.item
                values = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items}
                self.history.append((record.history.step.num, values))
            elif kind in ("run", "config"):
                update = record.run.config if kind == "run" else record.config
                for item in update.update:
                    self.config["/".join(item.nested_key) or item.key] = json.loads(item.value_json)
                if kind == "run":
                    self.run = record.run

    def numbers(self) -> dict[str, list[tuple[int, float]]]:
        """Step and value by name."""
        found: dict[str, list[tuple[int, float]]] = {}
        for step, values in self.history:
            for key, value in values.items():
                if isinstance(value, int | float) and not key.startswith("_"):
                    found.setdefault(key, []).append((step, value))
        return found

    def samples(self) -> list[tuple[int, str]]:
        """Step and whole text of every sample."""
        tables = [(s, row["samples/path"]) for s, row in self.history if "samples/path" in row]
        return [
            (step, "".join(cells))
            for step, path in tables
            for cells in json.loads((self.folder / "files" / path).read_text())["data"]
        ]

    def events(self) -> dict[str, list[tuple[int, str]]]:
        """Step and message by name."""
        found: dict[str, list[tuple[int, str]]] = {}
        for step, values in self.history:
            for key, value in values.items():
                if key.startswith("events/"):
                    found.setdefault(key.removeprefix("events/"), []).append((step, value))
        return found


def _records(content: bytes) -> Iterator[bytes]:
    """The records of a LevelDB log: pieces of them, none across the border of a block."""
    at, pieces = 7, b""
    while at + 7 <= len(content):
        room = _BLOCK - at % _BLOCK
        if room < 7:
            at += room
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        pieces += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last piece of one
            yield pieces
            pieces = b""
