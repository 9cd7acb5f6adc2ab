"""Text into token shards.

In: sources, a tokenizer, a split. Out: a data folder with shards, `tokenizer.json` and, last, the
manifest. Documents stream through: memory does not grow with the corpus. A folder whose preparation
is not finished has a marker and no manifest, so nobody trains on it; its journal says how far the
work has come. Preparing the same again goes on there, and ends in the same bytes as if it had never
been interrupted. What does not fit the journal (other text, other settings) starts over.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fromscratch.data.announcing import announce_far_sources, warn_of_little_room
from fromscratch.data.duplicates import near_bands
from fromscratch.data.encoding import Work, encode, encode_in_order, read_batches
from fromscratch.data.folder import alone_in, begin, check_folder, end, give_up, writing_into
from fromscratch.data.job import as_begun, command_of, job_of
from fromscratch.data.journal import Journal, SourceProgress, journal_origins, load_journal
from fromscratch.data.options import Part, PrepareOptions, usable_cores
from fromscratch.data.output import Output
from fromscratch.data.settling import as_documents, check_not_empty, tokenizer_for
from fromscratch.data.shards import Manifest, SourceSummary
from fromscratch.data.sources import Source
from fromscratch.data.watching import Advance, Remark, Watch, unwatched
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import fsync_folder
from fromscratch.tokenizer.names import needs_training
from fromscratch.tokenizer.tokenizer import Tokenizer, load_tokenizer

_COMMIT_SECONDS = 10.0
_MUCH_TEXT = 20_000_000
"""Bytes from which on it pays to make gigatoken ready and to compare it."""


@dataclass(frozen=True)
class Prepared:
    """What `prepare` made, and what it met on the way.

    Attributes:
        folder: Where it lies.
        manifest: What is in it.
        skipped: By source, the first of the files and records that gave no document, and why.
        notes: Places, and what was read there in another way than its maker may have meant.
        engine: What encoded the text, and why not something faster; empty where nothing did.
    """

    folder: Path
    manifest: Manifest
    skipped: dict[str, list[tuple[str, str]]]
    notes: list[tuple[str, str]]
    engine: str = ""


def prepare(
    sources: list[Source],
    folder: Path,
    options: PrepareOptions,
    *,
    part: Part | None = None,
    overwrite: bool = False,
    workers: int = 0,
    fast: bool = True,
    watch: Watch = unwatched,
) -> Prepared:
    """Writes the sources' documents as token shards into `folder`.

    Args:
        sources: Read one after the other; each keeps its own shards.
        folder: Made when absent; where an interrupted preparation of the same lies, it goes on.
        options: Tokenizer, split and shard size.
        part: Write this share of the work only, to be joined with the others by `merge`.
        overwrite: Replace finished data in `folder`.
        workers: Threads that encode; 0 for one per core.
        fast: Encode much text by gigatoken, where it is installed and its ids are the same.
        watch: Told how far the work is, and what a person should know meanwhile.

    Raises:
        UserError: The folder holds finished data or something else or cannot be written, a source
            does not exist, there is no text, or nothing falls into the validation split.
    """
    options.check()
    if part is not None and needs_training(options.tokenizer):
        raise UserError(
            f'Each part would train its own "{options.tokenizer}" on its own text.',
            fix="Train one first, and give it to every part: fromscratch tokenizer train SOURCE "
            "--out TOKENIZER, then --tokenizer TOKENIZER.",
        )
    check_folder(folder, overwrite=overwrite)
    sources = as_begun([source.listed() for source in sources], folder, options, part)
    joining: dict[str, Any] | None = None
    if part is not None:
        whole = job_of(sources, options, None)
        joining = {"job": whole, "options": asdict(options), "part": asdict(part)}
    stamps = [_stamp(source) for source in sources]
    with writing_into(folder), alone_in(folder):
        check_folder(folder, overwrite=overwrite)  # another process may have finished meanwhile
        announce_far_sources(sources, watch)
        journal, sources, tokenizer = _begun(sources, folder, options, part, watch)
        work = _share_of_work(sources, part)
        much = sum(portion.size for _, portion in work) >= _MUCH_TEXT
        engine = tokenizer.choose_engine(fast=fast and much)
        if not journal.documents_read:
            warn_of_little_room(work, tokenizer, folder, watch)
        names = [source.name for source in sources]
        output = Output(folder, tokenizer, options, names, journal, is_part=part is not None)
        try:
            _write(sources, work, tokenizer, options, output, workers or usable_cores(), watch)
        finally:
            output.abandon()
        made = complete(folder, tokenizer, options, names, journal, joining=joining)
        notes = [
            (source.spec, "changed while it was read; what is prepared is partly its old state")
            for source, stamp in zip(sources, stamps, strict=True)
            if _stamp(replace(source, found=None)) != stamp  # looked up anew: files may have come
        ]
        return replace(made, engine=engine, notes=made.notes + notes)


def _begun(
    sources: list[Source],
    folder: Path,
    options: PrepareOptions,
    part: Part | None,
    watch: Watch,
) -> tuple[Journal, list[Source], Tokenizer]:
    """Goes on with what lies in the folder, or begins; the sources as they are to be read."""
    job = job_of(sources, options, part)
    journal = load_journal(folder, job)
    _say_whether_it_goes_on(folder, journal, watch)
    if journal is not None:
        return journal, as_documents(sources, journal.documents), load_tokenizer(folder)
    check_not_empty(sources, fetch=part is None)
    sources = as_documents(sources, [options.documents] * len(sources))
    # Nothing is written or removed before all that can be refused has been.
    tokenizer = tokenizer_for(sources, options, watch)
    documents = [source.reading.documents for source in sources]
    journal = Journal(job, documents, [SourceProgress() for _ in sources])
    journal.origins = [source.whence for source in sources]
    begin(folder, command_of(sources, folder, options, part), tokenizer, journal)
    return journal, sources, tokenizer


def _share_of_work(sources: list[Source], part: Part | None) -> Work:
    """The portions to be read, of all sources one after the other."""
    work = [(i, portion) for i, source in enumerate(sources) for portion in source.portions()]
    return work if part is None else work[part.slice([portion.size for _, portion in work])]


def _write(
    sources: list[Source],
    work: Work,
    tokenizer: Tokenizer,
    options: PrepareOptions,
    output: Output,
    workers: int,
    watch: Watch,
) -> None:
    """Reads, encodes and writes what is left of the work."""
    journal = output.journal
    # A batch is done again after a crash: it must not be more than a shard.
    most = max(1, options.shard_tokens // 2)
    batches = read_batches(sources, work, tokenizer, journal.cursor, most_characters=most)
    bands = near_bands if options.dedup == "near" else None
    total = sum(portion.size for _, portion in work) or 1
    committed = time.monotonic()
    for encoded in encode_in_order(
        batches,
        lambda batch: encode(
            batch,
            tokenizer,
            val_fraction=options.val_fraction,
            seed=options.seed,
            near_bands=bands,
        ),
        workers=workers,
    ):
        filled_a_shard = output.add(encoded)
        if filled_a_shard or time.monotonic() - committed >= _COMMIT_SECONDS:
            output.commit(encoded.batch.end)
            committed = time.monotonic()
        n_bytes = sum(source.bytes for source in journal.sources)
        share = encoded.batch.passed / total
        watch(Advance("tokens", journal.documents_read, n_bytes, share))
    output.finish()


def _say_whether_it_goes_on(folder: Path, journal: Journal | None, watch: Watch) -> None:
    if journal is not None and journal.documents_read:
        done = f"{journal.documents_read:,} documents are done"
        watch(Remark(f"Going on where it stopped: {done}."))
    if journal is None and journal_origins(folder):
        watch(
            Remark(
                f"What lies unfinished in {folder} was begun with other text or other settings; "
                "it starts over."
            )
        )


def _stamp(source: Source) -> str | None:
    """What changes with a source's files; None where they cannot change while they are read."""
    fixed = source.hub is not None or source.spooled is not None
    return None if fixed else source.stamp()


def complete(
    folder: Path,
    tokenizer: Tokenizer,
    options: PrepareOptions,
    names: list[str],
    journal: Journal,
    *,
    joining: dict[str, Any] | None = None,
) -> Prepared:
    """Writes the manifest, which makes the folder whole; or says why the text will not do.

    Args:
        folder: With all shards in it.
        tokenizer: That made the ids.
        options: As prepared with.
        names: Of the sources.
        journal: Of the finished work.
        joining: Of a part: what `merge` needs to know.
    """
    summaries = [
        SourceSummary(
            name=name,
            spec=origin,
            documents=done.documents,
            bytes=done.bytes,
            files_skipped=done.files_skipped,
            duplicates=done.duplicates,
            sha256=done.sha256,
        )
        for name, origin, done in zip(names, journal.origins, journal.sources, strict=True)
    ]
    manifest = Manifest(
        tokenizer=tokenizer.name,
        tokenizer_fingerprint=tokenizer.fingerprint,
        vocab_size=tokenizer.vocab_size,
        eot_id=tokenizer.eot_id,
        val_fraction=options.val_fraction,
        seed=options.seed,
        dedup=options.dedup,
        sources=summaries,
        shards=sorted(journal.shards, key=lambda s: s.split),
    )
    skipped = {name: done.skipped for name, done in zip(names, journal.sources, strict=True)}
    fsync_folder(folder)
    if joining is not None:
        said = {name: done.notes for name, done in zip(names, journal.sources, strict=True)}
        manifest.save_part(folder, joining | {"skipped": skipped, "notes": said})
    else:
        try:
            _check_split(manifest, options)
        except UserError:  # the text is what it is: running it again would not help
            give_up(folder)
            raise
        manifest.save(folder)
    end(folder)
    notes = [note for done in journal.sources for note in done.notes]
    return Prepared(folder, manifest, skipped, notes)


def _check_split(manifest: Manifest, options: PrepareOptions) -> None:
    if not manifest.shards:
        raise UserError(
            "There was nothing to prepare: every file or record was empty, or was left out.",
            fix="Leave out --on-bad skip to see what is wrong with them.",
        )
    if manifest.total("tokens", "train") == 0:
        raise UserError(
            "Every document fell into the validation split: there is nothing to train on.",
            fix="Give more documents, or another --seed or --val-fraction.",
        )
    if manifest.total("tokens", "val") == 0 and not options.allow_no_validation:
        count = manifest.total("documents", "train")
        share = f"{options.val_fraction:.1%}"
        raise UserError(
            f"None of the {count} documents fell into the validation split at {share}.",
            fix="Raise --val-fraction, give the text as more (smaller) files, or say "
            "--no-validation if you mean it.",
        )
