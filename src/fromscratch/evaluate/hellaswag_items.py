"""HellaSwag's items (Zellers et al. 2019): from a file or the hub, checked, a fixed subset of them.

In: the data set's own JSON lines, or Parquet as the hub has it. Out: `HellaSwagItem`s with what
identifies them.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from fromscratch.data.hub import HUB_PREFIX
from fromscratch.data.hub_layout import split_of
from fromscratch.data.sources import Copies
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import dump_json

HUB_NAME = "hf:Rowan/hellaswag"


@dataclass(frozen=True)
class HellaSwagItem:
    """One item.

    Attributes:
        activity_label: Of ActivityNet or WikiHow.
        ctx_a: The context up to the sentence that is to be completed.
        ctx_b: That sentence's beginning; may be empty.
        ctx: Both.
        endings: Four.
        label: The right one.
    """

    activity_label: str
    ctx_a: str
    ctx_b: str
    ctx: str
    endings: tuple[str, ...]
    label: int


def read_hellaswag(spec: str, *, copies: Copies = Copies()) -> list[HellaSwagItem]:  # noqa: B008
    """Reads a set.

    Args:
        spec: A file (JSON lines or Parquet), or `hf:Rowan/hellaswag` (any data set on the hub in
            that form), of which the validation split is read.
        copies: Where files from the hub lie.

    Raises:
        UserError: There is no such file, it cannot be had, or it is not HellaSwag.
    """
    if not spec.startswith(HUB_PREFIX):
        return _read(Path(spec).expanduser(), spec)
    name, at, revision = spec.partition("@")
    # Without a part, the hub's own answer would be the split to train on.
    part = "" if ":" in name.removeprefix(HUB_PREFIX) else ":**/*validation*"
    dataset = copies.open(f"{name}{part}{at}{revision}")
    items: list[HellaSwagItem] = []
    try:
        files = dataset.files()
        chosen = [file for file in files if split_of(file.path) == "validation"] or files
        for file in chosen:
            with dataset.local(file, prefetch=False) as path:
                items += _read(path, f"{spec} {file.path}")
    finally:
        dataset.close()
    return items


def choose(items: Sequence[HellaSwagItem], n: int | None) -> list[HellaSwagItem]:
    """The first `n` of a shuffle that is always the same; all, in their order, for None or 0."""
    if not n or n >= len(items):
        return list(items)
    order = list(range(len(items)))
    random.Random(0).shuffle(order)
    return [items[i] for i in order[:n]]


def fingerprint(items: Sequence[HellaSwagItem]) -> str:
    """sha256 over the items in their order."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(dump_json(astuple(item)).encode("utf-8", "surrogatepass") + b"\n")
    return digest.hexdigest()


# --- files ----------------------------------------------------------------------------------------


def _read(path: Path, name: str) -> list[HellaSwagItem]:
    try:
        begins = path.open("rb").read(4)
        rows = _parquet(path, name) if begins == b"PAR1" else _json_lines(path, name)
        items = [_item(row, f"{name} {where}") for where, row in rows]
    except OSError as error:
        raise UserError(
            f"{name} cannot be read ({error.strerror or error}).",
            fix=f"Name HellaSwag's JSON lines, or {HUB_NAME} for the hub's.",
        ) from None
    if not items:
        raise UserError(f"{name} has no items.", fix=f"Use {HUB_NAME}, or its JSON lines.")
    return items


def _json_lines(path: Path, name: str) -> Iterator[tuple[str, Any]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    yield f"line {number}", json.loads(line)
                except ValueError as error:
                    raise UserError(
                        f"{name} line {number} is not JSON ({error}).",
                        fix="Mend the file, or get it anew.",
                    ) from None


def _parquet(path: Path, name: str) -> Iterator[tuple[str, Any]]:
    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowException as error:
        raise UserError(f"{name} is not readable Parquet ({error}).") from None
    for number, row in enumerate(table.to_pylist()):
        yield f"row {number}", row


def _item(row: Any, where: str) -> HellaSwagItem:
    texts = ("activity_label", "ctx_a", "ctx_b", "ctx")
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in texts):
        raise UserError(
            f"{where} is no item of HellaSwag: it lacks one of {', '.join(texts)}.",
            fix=f"Name HellaSwag's own file, or {HUB_NAME}.",
        )
    endings = row.get("endings")
    if (
        not isinstance(endings, list)
        or len(endings) < 2
        or not all(isinstance(ending, str) and ending.strip() for ending in endings)
    ):
        raise UserError(f"{where}: its endings are not a list of texts.")
    label = str(row.get("label", ""))
    if not label.isdecimal() or int(label) >= len(endings):
        raise UserError(
            f'{where}: the label "{label}" is none of its {len(endings)} endings.',
            fix="The test set's labels are not public: use the validation set.",
        )
    return HellaSwagItem(
        **{key: row[key] for key in texts}, endings=tuple(endings), label=int(label)
    )
