"""`fromscratch prepare`: text into token shards."""

from __future__ import annotations

import json
import shlex
from enum import Enum
from pathlib import Path

import typer

from fromscratch.cli.show import documents_progress, print_warning, say, size, table


class Documents(Enum):
    """What a document is."""

    auto = "auto"
    file = "file"
    passage = "passage"
    paragraph = "paragraph"


class Dedup(Enum):
    """Which documents are left out."""

    none = "none"
    exact = "exact"
    near = "near"


def run(
    sources: list[str] = typer.Argument(
        ..., help='Text files, folders or globs, or "stdlib"; NAME=PATH gives one a name.'
    ),
    to: Path = typer.Option(..., "--out", help="Folder to write the prepared data into."),
    tokenizer: str = typer.Option(
        "gpt2", help="gpt2, bytes, chars, bpe:N (trained on this text), or a tokenizer's path."
    ),
    val_fraction: float = typer.Option(
        None, help="Share of documents held out [0.01, or more of a small text]."
    ),
    documents: Documents = typer.Option(
        Documents.auto, help="What a document is in plain text; auto cuts files where they are few."
    ),
    dedup: Dedup = typer.Option(
        Dedup.none, help="Leave out copies of documents that came before: exact, or near ones too."
    ),
    part: str = typer.Option(
        None, help="Do only part I/N of the work (0/4 to 3/4); `data merge` joins the parts."
    ),
    seed: int = typer.Option(0, help="Of the split."),
    shard_tokens: int = typer.Option(100_000_000, help="Tokens in a shard."),
    no_validation: bool = typer.Option(False, "--no-validation", help="Hold nothing out."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace prepared data in --out."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON for a program."),
) -> None:
    """Turns text into token shards with a held-out split.

    Example: fromscratch prepare my-texts/ --out prepared/mine --tokenizer bpe:4096
    """
    from fromscratch.data.documents import SPLITS
    from fromscratch.data.options import Part, PrepareOptions
    from fromscratch.data.prepare import default_val_fraction, prepare
    from fromscratch.data.sources import parse_sources

    parsed = parse_sources(sources)
    if no_validation:
        val_fraction = 0.0
    elif val_fraction is None:
        val_fraction = default_val_fraction(parsed, least=0.01, seed=seed)
    options = PrepareOptions(
        tokenizer=tokenizer,
        val_fraction=val_fraction,
        documents=documents.value,
        dedup=dedup.value,
        seed=seed,
        shard_tokens=shard_tokens,
        allow_no_validation=no_validation,
    )
    with documents_progress() as progress:
        made = prepare(
            parsed,
            to,
            options,
            part=None if part is None else Part.parse(part),
            overwrite=overwrite,
            progress=progress,
        )
    skipped = [item for items in made.skipped.values() for item in items]
    manifest = made.manifest
    if as_json:
        content: dict[str, object] = {
            split: {q: manifest.total(q, split) for q in ("documents", "tokens", "bytes")}
            for split in SPLITS
        }
        content |= {"fingerprint": manifest.fingerprint, "skipped": skipped}
        typer.echo(json.dumps(content, indent=2))
        return
    rows = []
    for split, word in zip(SPLITS, ("training", "held out"), strict=True):
        tokens, n_bytes = manifest.total("tokens", split), manifest.total("bytes", split)
        per_token = f"{n_bytes / tokens:.2f}" if tokens else "-"
        documents_count = manifest.total("documents", split)
        rows.append([word, f"{documents_count:,}", f"{tokens:,}", size(n_bytes), per_token])
    table(["", "documents", "tokens", "text", "bytes a token"], rows)
    if skipped:
        print_warning(f"{len(skipped)} files were skipped:")
        for path, reason in skipped[:10]:
            say(f"  {path}: {reason}")
        if len(skipped) > 10:
            say(f"  ... and {len(skipped) - 10} more")
    say()
    spec = f"bpe:{manifest.vocab_size}" if manifest.tokenizer == "bpe" else manifest.tokenizer
    say(f"Prepared {to}. Train on it:")
    say(
        f"  fromscratch train modern-124m data.path={shlex.quote(str(to))} data.tokenizer={spec} "
        f"model.vocab_size={manifest.vocab_size} model.padded_vocab=0"
    )
