"""Pairs of answers written as the examples that training reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from fromscratch.chat.rendering import Rendered
from fromscratch.data.example_writer import ExampleWriter, side_counts
from fromscratch.data.examples import FORMAT_VERSION, ExamplesManifest
from fromscratch.foundation.files import dump_json
from fromscratch.foundation.names import EXAMPLES_MANIFEST
from fromscratch.tokenizer.build import bytes_tokenizer


def write_pairs(folder: Path, pairs: Sequence[tuple[Rendered, Rendered]]) -> Path:
    """All of them on the side that trains."""
    tokenizer = bytes_tokenizer()
    sides = np.zeros(2 * len(pairs), dtype=np.uint8)
    with ExampleWriter(folder, np.uint16, spool=False) as writer:
        for pair in pairs:
            for rendered in pair:
                writer.add(rendered.ids, rendered.supervised, ())
        counts = side_counts(sides, *writer.finish(sides, tokenizer))
    manifest = ExamplesManifest(
        source="made",
        spec="made",
        settings={},
        tokenizer=tokenizer.name,
        tokenizer_fingerprint=tokenizer.fingerprint,
        records=len(pairs),
        sides=counts,
        sha256=writer.sha256,
        skipped=0,
        prompt_too_long=0,
        answer_too_long=0,
        both_too_long=0,
        ties=0,
        copies=0,
        copies_across=0,
    )
    content = {"format_version": FORMAT_VERSION} | asdict(manifest)
    (folder / EXAMPLES_MANIFEST).write_text(dump_json(content))
    return folder
