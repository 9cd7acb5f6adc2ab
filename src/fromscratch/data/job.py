"""What a preparation is: a hash by which it is known again, and the command that finishes it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

from fromscratch.data.journal import journal_origins, load_journal
from fromscratch.data.options import Part, PrepareOptions
from fromscratch.data.sources import Copies, Source, name_for


def job_of(sources: list[Source], options: PrepareOptions, part: Part | None) -> str:
    """Hash of all that determines the result; the text itself by its files' sizes and times."""
    content = [
        [[s.name, s.spec, asdict(s.reading), s.stamp()] for s in sources],
        asdict(options),
        None if part is None else asdict(part),
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def command_of(
    sources: list[Source], folder: Path, options: PrepareOptions, part: Part | None
) -> list[str]:
    """The words of the command that finishes the job."""
    words = ["fromscratch", "prepare"]
    words += [s.spec if s.name == name_for(s.spec) else f"{s.name}={s.spec}" for s in sources]
    words += ["--out", str(folder), "--tokenizer", options.tokenizer, "--seed", str(options.seed)]
    words += ["--documents", options.documents, "--shard-tokens", str(options.shard_tokens)]
    words += ["--dedup", options.dedup]
    reading = sources[0].reading
    words += ["--field", reading.field, "--on-bad", reading.on_bad]
    if reading.render is not None:
        words += ["--render", reading.render]
    if options.allow_no_validation:
        words += ["--no-validation"]
    else:
        words += ["--val-fraction", str(options.val_fraction)]
    if part is not None:
        words += ["--part", f"{part.index}/{part.count}"]
    return words + _words_of_copies(sources)


def as_begun(
    sources: list[Source], folder: Path, options: PrepareOptions, part: Part | None
) -> list[Source]:
    """The sources at the commits with which the same job, interrupted in `folder`, began.

    So a data set on the hub that has changed meanwhile is gone on with as it was.
    """
    origins = journal_origins(folder)
    if len(origins) != len(sources) or all(source.hub is None for source in sources):
        return sources
    earlier = [s.pinned(whence) for s, whence in zip(sources, origins, strict=True)]
    begun = load_journal(folder, job_of(earlier, options, part)) is not None
    return earlier if begun else sources


def _words_of_copies(sources: list[Source]) -> list[str]:
    """Where files from the hub go, if it is not the usual place."""
    copies = next((source.copies for source in sources if source.hub is not None), Copies())
    words = []
    if copies.keep_local != Copies.keep_local:
        words += ["--keep-local", f"{copies.keep_local}B"]
    if copies.folder is not None:
        words += ["--hub-cache", str(copies.folder)]
    return words
