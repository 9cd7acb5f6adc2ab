"""`fromscratch prepare`: text into token shards."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from fromscratch.cli.data_verb import recipe_on
from fromscratch.cli.documents_progress import documents_progress
from fromscratch.cli.prepare_in_tasks import Executor, TaskOptions, tell_queued
from fromscratch.cli.show import err, parse_size, print_json, print_warning, say, size, table
from fromscratch.cli.vocabulary import argument, option

if TYPE_CHECKING:
    from fromscratch.data.prepare import Prepared
    from fromscratch.data.sources import Source


class Documents(Enum):
    """What a document is."""

    auto = "auto"
    file = "file"
    passage = "passage"
    paragraph = "paragraph"


class OnBad(Enum):
    """What is done with input that cannot be read."""

    stop = "stop"
    skip = "skip"


class Dedup(Enum):
    """Which documents are left out."""

    none = "none"
    exact = "exact"
    near = "near"


def run(
    sources: list[str] = argument(
        "SOURCE", of="token shards too; - is standard input; NAME=SOURCE gives one a name"
    ),
    to: Path = option("out", ..., of="the prepared data's folder"),
    tokenizer: str = option("tokenizer", "gpt2", of="or chars, or bpe:N, trained on this text"),
    val_fraction: float = option("val-fraction", show_default="0.01, or more of a small text"),
    documents: Documents = option("documents", Documents.auto),
    dedup: Dedup = option("dedup", Dedup.none),
    field: str = option("field", "text"),
    render: str = option("render"),
    on_bad: OnBad = option("on-bad", OnBad.stop),
    keep_local: str = option("keep-local", "30GB"),
    hub_cache: Path = option("hub-cache", show_default="this user's cache"),
    part: str = option("part"),
    fast: bool = option("fast", True),
    parts: int = option("parts"),
    executor: Executor = option("executor", show_default="local"),
    workers: int = option(
        "workers", show_default="as many as cores, or as the cluster has room for"
    ),
    cores: int = option("cores", show_default="1"),
    memory: str = option("memory", show_default="4GB"),
    slurm_partition: str = option("slurm-partition"),
    slurm_time: str = option("slurm-time"),
    sbatch: list[str] = option("sbatch", []),
    seed: int = option("seed", 0, of="which documents are held out"),
    shard_tokens: int = option("shard-tokens", 100_000_000),
    no_validation: bool = option("no-validation", False),
    overwrite: bool = option("overwrite", False),
    as_json: bool = option("json", False),
) -> None:
    """Turns text into token shards with a held-out split.

    Example: fromscratch prepare my-texts/ --out prepared/mine --tokenizer bpe:4096
    """
    from fromscratch.data.cluster import Queued, prepare_in_tasks
    from fromscratch.data.folder import check_folder
    from fromscratch.data.options import Part, PrepareOptions
    from fromscratch.data.prepare import prepare
    from fromscratch.data.settling import default_val_fraction
    from fromscratch.data.sources import Copies, Reading, parse_sources

    task_options = TaskOptions(
        parts, executor, workers, cores, memory, slurm_partition, slurm_time, sbatch
    )
    task_options.check(part)
    reading = Reading(field=field, render=render, on_bad=on_bad.value)
    copies = Copies(hub_cache, parse_size(keep_local))
    named = parse_sources(sources, reading, copies)
    check_folder(to, overwrite=overwrite)  # before standard input is read, which may take hours
    with documents_progress() as watch, _standard_input_in_a_file(named, to) as parsed:
        if no_validation:
            val_fraction = 0.0
        elif val_fraction is None:
            val_fraction = default_val_fraction(parsed, least=0.01, seed=seed, tokenizer=tokenizer)
        options = PrepareOptions(
            tokenizer=tokenizer,
            val_fraction=val_fraction,
            documents=documents.value,
            dedup=dedup.value,
            seed=seed,
            shard_tokens=shard_tokens,
            allow_no_validation=no_validation,
        )
        if parts is None:
            made = prepare(
                parsed,
                to,
                options,
                part=None if part is None else Part.parse(part),
                overwrite=overwrite,
                fast=fast,
                watch=watch,
            )
        else:
            cluster = task_options.cluster()
            joined = prepare_in_tasks(
                parsed, to, options, cluster, overwrite=overwrite, fast=fast, watch=watch
            )
            if isinstance(joined, Queued):
                tell_queued(joined, to, as_json=as_json)
                return
            made = joined
    if as_json:
        show_as_json(made)
        return
    show(made)
    manifest = made.manifest
    say()
    if part is not None:
        say(f"Prepared part {part} in {to}. When all parts are there, join them:")
        say("  fromscratch data merge PART ... --out DATA")
        return
    say(f"Prepared {to}. Look at it, and train on it:")
    say(f"  fromscratch data show {shlex.quote(str(to))}")
    say(f"  fromscratch train {recipe_on(manifest, to)}")


@contextmanager
def _standard_input_in_a_file(sources: list[Source], to: Path) -> Iterator[list[Source]]:
    """Puts standard input into a file beside the output for as long as it is read."""
    from fromscratch.data.folder import spooled_beside

    if not any(source.is_standard_input for source in sources):
        yield sources
        return
    if sys.stdin.isatty():
        err.print("Reading what is typed here; end it with Ctrl-D (Windows: Ctrl-Z, Enter).")
    with spooled_beside(to, sys.stdin.buffer) as path:
        yield [replace(s, spooled=path) if s.is_standard_input else s for s in sources]


def show_as_json(made: Prepared) -> None:
    """What was prepared, for a program."""
    from fromscratch.data.documents import SPLITS

    manifest = made.manifest
    content: dict[str, object] = {
        split: {q: manifest.total(q, split) for q in ("documents", "tokens", "bytes")}
        for split in SPLITS
    }
    content |= {
        "fingerprint": manifest.fingerprint,
        "duplicates": sum(source.duplicates for source in manifest.sources),
        "n_skipped": sum(source.files_skipped for source in manifest.sources),
        "skipped": [item for items in made.skipped.values() for item in items],
        "notes": made.notes,
        "engine": made.engine,
    }
    print_json(content)


def show(made: Prepared) -> None:
    """What was prepared, for a person."""
    from fromscratch.data.documents import SPLITS

    manifest = made.manifest
    rows = []
    for split, word in zip(SPLITS, ("training", "held out"), strict=True):
        tokens, n_bytes = manifest.total("tokens", split), manifest.total("bytes", split)
        per_token = f"{n_bytes / tokens:.2f}" if tokens else "-"
        count = manifest.total("documents", split)
        rows.append([word, f"{count:,}", f"{tokens:,}", size(n_bytes), per_token])
    table(["", "documents", "tokens", "text", "bytes a token"], rows)
    if made.engine:
        say(made.engine)
    duplicates = sum(source.duplicates for source in manifest.sources)
    if duplicates:
        say(f"{duplicates:,} documents were left out: they, or near copies, came before.")
    skipped = [item for items in made.skipped.values() for item in items]
    if skipped:
        count = sum(source.files_skipped for source in manifest.sources)
        print_warning(f"{count:,} files or records were skipped:")
        _list(skipped, count)
    if made.notes:
        say("Please note:")
        _list(made.notes, len(made.notes))


def _list(items: list[tuple[str, str]], count: int) -> None:
    for place, reason in items[:10]:
        say(f"  {place}: {reason}")
    if count > 10:
        say(f"  ... and {count - 10:,} more")
