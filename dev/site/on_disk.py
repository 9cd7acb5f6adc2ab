"""The page of file formats: every name on disk with what it holds, and the fields of the rows.

Made from foundation/names.py, the one place that spells names, and from the classes whose fields
are written.
"""

from __future__ import annotations

import dataclasses

from source_text import attributes_section, sections_of_constants

from fromscratch.checkpoint.state import Progress
from fromscratch.data.examples import ExamplesManifest
from fromscratch.data.shards import Manifest, Shard, SourceSummary
from fromscratch.foundation import names
from fromscratch.track.tracker import (
    HealthResult,
    HellaSwagResult,
    SampleResult,
    StepResult,
    ValidationResult,
)

WRITTEN: dict[str, tuple[type, ...]] = {
    f"DATA/{names.DATA_MANIFEST}": (Manifest, SourceSummary, Shard),
    names.EXAMPLES_MANIFEST: (ExamplesManifest,),
    f"RUN/{names.RUN_METRICS}": (StepResult, ValidationResult, HellaSwagResult),
    f"RUN/{names.RUN_SAMPLES}": (SampleResult,),
    f"RUN/{names.RUN_HEALTH}": (HealthResult,),
    f"CHECKPOINT/{names.CHECKPOINT_STATE}": (Progress,),
}
"""Files of JSON, and the classes whose fields they have."""

_TITLES = {
    SourceSummary: "each of `sources`",
    Shard: "each of `shards`",
    StepResult: "a row for each update",
    ValidationResult: "a row for each validation",
    HellaSwagResult: "a row for each time HellaSwag was answered",
}

_NUMBERED = {
    "inside DATA/": {
        names.shard_file("train", 0): "token ids of a split: 1-D .npy, uint16, or uint32 where the "
        "vocabulary needs it; read through memory maps",
        names.documents_file("train", 0): "where its documents begin, and the end: int64",
        names.part_folder(0): "in DATA-parts/: one part of the work",
    },
    "inside RUN/": {
        f"{names.RUN_CHECKPOINTS}/{names.step_folder(500)}": "CHECKPOINT/ after so many updates; "
        "`.tmp` behind the name until it is whole",
        f"{names.RUN_LANDSCAPE}/{names.landscape_file('0' * 16)}": "the points of a landscape, "
        "named by the hash of what they depend on",
    },
    "inside SWEEP/": {
        names.trial_folder(3): "RUN/ of a trial",
        names.trial_lock_file(3): "locked by the process that runs it",
    },
}
"""Names with a number in them, which functions of names.py spell."""


def page() -> str:
    """The page, in Markdown."""
    parts = [
        "# Files\n",
        "What this project writes. JSON, TOML, NumPy's `.npy` and safetensors, nothing else: no "
        "pickle. A file that matters is written beside its place, forced to the disk and renamed; "
        "manifests come last, so a folder with one is whole. In JSON, a number that is not finite "
        "is a word. This page is made from the code.\n",
    ]
    for title, constants in sections().items():
        where = title.removeprefix("names ")
        rows = dict(constants.values()) | _NUMBERED.get(where, {})
        parts += [f"## {where[0].upper()}{where[1:]}\n", _table("file", rows)]
    parts.append("## What stands in them\n")
    for file, classes in WRITTEN.items():
        parts.append(f"### `{file}`\n")
        for written in classes:
            if title := _TITLES.get(written, ""):
                parts.append(f"{title[0].upper()}{title[1:]}:\n")
            parts.append(_table("key", fields(written)))
    parts.append(
        f"`{names.CHECKPOINT_MANIFEST}` has `format_version`, `step` and, for each file, its "
        "`bytes` and `sha256`.\n"
    )
    return "\n".join(parts)


def sections() -> dict[str, dict[str, tuple[str, str]]]:
    """The names by folder: of each its spelling and what it holds."""
    return sections_of_constants(names)


def fields(written: type) -> dict[str, str]:
    """What each field of a class means; empty for one that its docstring leaves out."""
    said = attributes_section(written)
    return {field.name: said.get(field.name, "") for field in dataclasses.fields(written)}


def _table(head: str, rows: dict[str, str]) -> str:
    lines = [f"| {head} | |", "|---|---|"]
    lines += [f"| `{name}` | {said.replace('|', chr(92) + '|')} |" for name, said in rows.items()]
    return "\n".join(lines) + "\n"
