"""`fromscratch tokenizer train` and `inspect`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import typer

from fromscratch.cli.show import say, table
from fromscratch.foundation.errors import UserError

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Trains tokenizers and looks into them.

    Example: fromscratch tokenizer train my-texts/ --vocab-size 4096 --out my-tokenizer
    """


@app.command()
def train(
    sources: list[str] = typer.Argument(..., help='Text files, folders, globs, or "stdlib".'),
    to: Path = typer.Option(..., "--out", help="Folder to write tokenizer.json into."),
    vocab_size: int = typer.Option(4096, help="Ids in all, end-of-text included."),
    pattern: str = typer.Option(
        "modern", help="How text is cut before merging: modern, gpt2 or line."
    ),
) -> None:
    """Trains a byte-level BPE on text.

    Example: fromscratch tokenizer train my-texts/ --vocab-size 4096 --out my-tokenizer
    """
    from fromscratch.data.sources import SourceReport, parse_sources
    from fromscratch.tokenizer.build import train_bpe
    from fromscratch.tokenizer.names import bpe_size

    bpe_size(f"bpe:{vocab_size}")
    if (to / "tokenizer.json").exists():
        raise UserError(f"{to} already holds a tokenizer.", fix="Choose another --out.")
    parsed = parse_sources(sources)

    def texts() -> Iterator[str]:
        """The documents, one by one; read twice rather than held in memory."""
        for source in parsed:
            for document in source.documents(SourceReport()):
                yield document.text

    if next(texts(), None) is None:
        raise UserError("There is no text in these sources.")
    tokenizer = train_bpe(texts(), vocab_size=vocab_size, pattern=pattern)
    to.mkdir(parents=True, exist_ok=True)
    tokenizer.save(to)
    n_bytes = tokens = 0
    for text in texts():
        ids = tokenizer.encode(text)
        tokens += len(ids)
        n_bytes += int(tokenizer.bytes_per_id[ids].sum())
    say(
        f"{to / 'tokenizer.json'}: {tokenizer.vocab_size:,} ids, {n_bytes / tokens:.2f} bytes a "
        f"token on its own {n_bytes / 1e6:.1f} MB"
    )
    if tokenizer.vocab_size < vocab_size:
        say(f"The text has no more pairs to merge: {vocab_size:,} ids could not be filled.")


@app.command()
def inspect(
    tokenizer: str = typer.Argument(..., help="gpt2, bytes, or a folder with tokenizer.json."),
    text: str = typer.Option("", help="A text to show token by token."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON for a program."),
) -> None:
    """Shows a tokenizer, and how it cuts a text.

    Example: fromscratch tokenizer inspect gpt2 --text "Hello, world"
    """
    from fromscratch.tokenizer.build import make_tokenizer
    from fromscratch.tokenizer.names import needs_training

    if needs_training(tokenizer):
        raise UserError(
            f'"{tokenizer}" is made from text.',
            fix="Make it first: fromscratch tokenizer train SOURCE --out FOLDER.",
        )
    made = make_tokenizer(tokenizer)
    ids = made.encode(text)
    if as_json:
        content = {
            "kind": made.name,
            "vocab_size": made.vocab_size,
            "eot_id": made.eot_id,
            "fingerprint": made.fingerprint,
            "ids": ids,
        }
        typer.echo(json.dumps(content, indent=2))
        return
    say(f"{made.name}: {made.vocab_size:,} ids, end-of-text is {made.eot_id}")
    say(f"fingerprint {made.fingerprint}")
    if text:
        n_bytes = int(made.bytes_per_id[ids].sum())
        say()
        table(["token", "id"], [[repr(made.decode([i])), str(i)] for i in ids])
        say(f"{n_bytes} bytes, {len(ids)} tokens: {n_bytes / len(ids):.2f} bytes a token")
