"""`fromscratch tokenizer train`, `compare` and `inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fromscratch.cli.show import print_json, print_warning, say, size, table
from fromscratch.cli.verb_group import Verbal
from fromscratch.cli.vocabulary import argument, option
from fromscratch.foundation.errors import UserError

if TYPE_CHECKING:
    from fromscratch.data.documents import Split
    from fromscratch.data.sample import HashSample

app = Verbal()

_SAMPLE = "200MB"
_SOURCES = argument("SOURCE", of="as for `prepare`")
_FIELD = option("field", "text")
_RENDER = option("render")
_SAMPLE_OPTION = option("sample", _SAMPLE)
_VAL_FRACTION = option("val-fraction", show_default="0.01, or more of a small text")
_SEED = option("seed", 0, of="which documents are held out, as for `prepare`")


@app.callback()
def _group() -> None:
    """Trains tokenizers, compares them and looks into them.

    Example: fromscratch tokenizer train my-texts/ --vocab-size 4096 --out my-tokenizer
    """


@app.command()
def train(
    sources: list[str] = _SOURCES,
    to: Path = option("out", ..., of="the folder for tokenizer.json"),
    vocab_size: int = option("vocab-size", 4096),
    pattern: str = option("pattern", "modern"),
    special: list[str] = option("special", []),
    field: str = _FIELD,
    render: str = _RENDER,
    sample: str = _SAMPLE_OPTION,
    val_fraction: float = _VAL_FRACTION,
    seed: int = _SEED,
) -> None:
    """Trains a byte-level BPE on the training side of some text.

    Example: fromscratch tokenizer train my-texts/ --vocab-size 4096 --out my-tokenizer
    """
    from fromscratch.cli.tokenizer_work import bytes_per_token, sides_of, waiting
    from fromscratch.data.sources import Reading
    from fromscratch.tokenizer.build import train_bpe
    from fromscratch.tokenizer.names import bpe_size, check_pattern

    bpe_size(f"bpe:{vocab_size}")
    check_pattern(pattern)
    if (to / "tokenizer.json").exists():
        raise UserError(f"{to} already holds a tokenizer.", fix="Choose another --out.")
    reading = Reading(field=field, render=render)
    sides = sides_of(sources, reading, sample=sample, val_fraction=val_fraction, seed=seed)
    with waiting("learning merges") as call:
        tokenizer = call(
            lambda: train_bpe(
                sides["train"].texts(), vocab_size=vocab_size, pattern=pattern, special=special
            )
        )
    to.mkdir(parents=True, exist_ok=True)
    tokenizer.save(to)
    say(f"{to / 'tokenizer.json'}: {tokenizer.vocab_size:,} ids, {_learned_from(sides)}")
    held_out = bytes_per_token(tokenizer, sides["val"].texts())
    if held_out:
        say(f"{held_out:.2f} bytes a token on {size(sides['val'].kept_bytes)} of held-out text")
    if tokenizer.vocab_size < vocab_size:
        say(f"The text has no more pairs to merge: {vocab_size:,} ids could not be filled.")


@app.command()
def compare(
    sources: list[str] = _SOURCES,
    candidates: list[str] = option("candidates", ["gpt2,bytes,bpe:4096,bpe:16384"]),
    width: int = option("width", 768),
    field: str = _FIELD,
    render: str = _RENDER,
    sample: str = _SAMPLE_OPTION,
    val_fraction: float = _VAL_FRACTION,
    seed: int = _SEED,
    as_json: bool = option("json", False),
) -> None:
    """Compares tokenizers on the held-out text of some sources.

    Example: fromscratch tokenizer compare my-texts/ --candidates gpt2,bpe:4096,bpe:4096:gpt2
    """
    from fromscratch.cli.tokenizer_work import measure, sides_of
    from fromscratch.data.sources import Reading

    names = [name for given in candidates for name in given.split(",") if name]
    if not names:
        raise UserError("There is nothing to compare.", fix="Say --candidates gpt2,bpe:4096.")
    reading = Reading(field=field, render=render)
    sides = sides_of(sources, reading, sample=sample, val_fraction=val_fraction, seed=seed)
    measured = [measure(name, sides, width=width) for name in names]
    if as_json:
        print_json([m.to_json() for m in measured])
        return
    rows = [
        [
            m.name,
            f"{m.vocab_size:,}",
            f"{m.bytes_per_token:.2f}",
            f"{m.tokens:,}",
            f"{m.embedding / 1e6:.2f}M",
            f"{m.megabytes_per_s:.0f}" if m.megabytes_per_s else "-",
        ]
        for m in measured
    ]
    speed = "MB/s, one core"
    table(["", "ids", "bytes a token", "tokens", f"embedding at {width}", speed], rows)
    say()
    say(f"On {size(sides['val'].kept_bytes)} of held-out text; {_learned_from(sides)}.")
    if sides["val"].kept_bytes < 100_000:
        print_warning("That is little text to compare on: differences of a few percent are noise.")


@app.command()
def inspect(
    tokenizer: str = argument("TOKENIZER"),
    text: str = option("text", ""),
    as_json: bool = option("json", False),
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
    engine = made.choose_engine()
    if as_json:
        content = {
            "kind": made.name,
            "vocab_size": made.vocab_size,
            "eot_id": made.eot_id,
            "special": made.special_ids,
            "fingerprint": made.fingerprint,
            "engine": engine,
            "ids": ids,
        }
        print_json(content)
        return
    say(f"{made.name}: {made.vocab_size:,} ids, end-of-text is {made.eot_id}")
    for name, i in made.special_ids.items():
        if i != made.eot_id:
            say(f"special token {name} is {i}")
    say(f"fingerprint {made.fingerprint}")
    say(f"Much text is {engine[0].lower()}{engine[1:]}")
    if text:
        n_bytes = int(made.bytes_per_id[ids].sum())
        say()
        table(["token", "id"], [[repr(made.decode([i])), str(i)] for i in ids])
        say(f"{n_bytes} bytes, {len(ids)} tokens: {n_bytes / len(ids):.2f} bytes a token")


def _learned_from(sides: dict[Split, HashSample]) -> str:
    train = sides["train"]
    if train.is_all:
        return f"learned from {size(train.bytes)} of text"
    return f"learned from {size(train.kept_bytes)} of {size(train.bytes)} of text"
