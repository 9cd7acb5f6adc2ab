"""`fromscratch data show`: what is in prepared data, before a model is trained on it."""

from __future__ import annotations

import shlex
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, set_cell_size

from fromscratch.cli.progress import progress, tokens_a_second
from fromscratch.cli.show import out, print_json, say, size, table
from fromscratch.cli.verb_group import Verbal
from fromscratch.cli.vocabulary import argument, option
from fromscratch.foundation.errors import UserError
from fromscratch.report.numerals import percent

if TYPE_CHECKING:
    from fromscratch.data.audit import Amount, Audit
    from fromscratch.data.lengths import Lengths
    from fromscratch.data.shards import Manifest

# Tokens below which a model of 124M parameters is too large by far.
_SMALL = 100_000_000

app = Verbal()


@app.callback()
def _group() -> None:
    """Looks into prepared data, and joins parts of it.

    Example: fromscratch data show prepared/mine
    """


@app.command()
def show(
    data: Path = argument("DATA"),
    context: int = option("context", 1024, of="a model's context, to compare lengths with"),
    picture: Path = option("picture", of="how long the documents are"),
    samples: int = option("samples", 10),
    seed: int = option("seed", 0, of="which documents are shown"),
    full: bool = option("full", False),
    as_json: bool = option("json", False),
) -> None:
    """Shows counts, lengths, random documents, tokens, and what the splits have in common.

    Of more than 50 million tokens in a split, the text of so many is looked at, evenly spread.

    Example: fromscratch data show prepared/mine --picture lengths.png
    """
    from fromscratch.data.advice import advice
    from fromscratch.data.audit import AuditOptions, audit
    from fromscratch.foundation.files import write_atomically

    if context < 1:
        raise UserError(f"--context {context} is not a number of tokens.")
    if samples < 0:
        raise UserError(f"--samples {samples} is not a number of documents.")
    if picture is not None and (picture.is_dir() or not picture.parent.is_dir()):
        raise UserError(
            f"--picture {picture} cannot be written.", fix="Name a file in a folder that exists."
        )
    options = AuditOptions(context=context, samples=samples, seed=seed)
    if full:
        options = AuditOptions(context=context, samples=samples, seed=seed, most_tokens=None)
    with progress(tokens_a_second) as report:
        found = audit(data, options, progress=report)
    sentences = [f"{a.what[0].upper()}{a.what[1:]} ({a.regret}): {a.fix}." for a in advice(found)]
    if picture is not None:
        from fromscratch.report.length_picture import length_picture

        title = f"{data.name or data}: {found.total.documents:,} documents"
        write_atomically(picture, length_picture(found.lengths, title))
    if as_json:
        print_json(_as_json(found, sentences))
        return
    _print(found, options.seed)
    if picture is not None:
        say(f"The lengths as a picture: {picture}")
        say()
    _print_advice(found.manifest, data, sentences)


def _as_json(audit: Audit, sentences: list[str]) -> dict[str, Any]:
    """Everything that is shown, as plain values."""
    content: dict[str, Any] = asdict(audit)
    manifest = content.pop("manifest")
    kept = (
        "tokenizer",
        "tokenizer_fingerprint",
        "vocab_size",
        "eot_id",
        "val_fraction",
        "seed",
        "dedup",
    )
    sources = {s["name"]: s for s in manifest["sources"]}
    for name, parts in content["sources"].items():
        content["sources"][name] = parts | {
            "skipped_files": sources[name]["files_skipped"],
            "duplicates": sources[name]["duplicates"],
        }
    return (
        {"fingerprint": audit.manifest.fingerprint}
        | {key: manifest[key] for key in kept}
        | content
        | {"folder": str(audit.folder), "complete": audit.content.complete, "advice": sentences}
    )


def _print(audit: Audit, seed: int) -> None:
    say(f"{audit.folder}: {audit.manifest.tokenizer} tokenizer, {audit.manifest.vocab_size:,} ids")
    say()
    _print_amounts(audit)
    say()
    _print_lengths(audit.lengths)
    say()
    _print_samples(audit, seed)
    _print_tokens(audit)
    say()
    _print_special(audit)
    say()
    _print_copies(audit)
    say()


def _row(name: str, part: Amount, whole: Amount) -> list[str]:
    per_token = f"{part.bytes_per_token:.2f}" if part.tokens else "-"
    share = percent(part.tokens / whole.tokens) if whole.tokens else "-"
    return [name, f"{part.documents:,}", f"{part.tokens:,}", share, size(part.bytes), per_token]


def _print_amounts(audit: Audit) -> None:
    total, words = audit.total, {"train": "training", "val": "held out"}
    rows = [_row(words[split], part, total) for split, part in audit.splits.items()]
    columns = ["", "documents", "tokens", "share", "text", "bytes a token"]
    table(columns, [*rows, _row("together", total, total)])
    say()
    rows = []
    for summary in audit.manifest.sources:
        parts = audit.sources[summary.name]
        documents = sum(p.documents for p in parts.values())
        tokens = sum(p.tokens for p in parts.values())
        rows.append(
            [
                summary.name,
                f"{documents:,}",
                f"{tokens:,}",
                percent(tokens / total.tokens) if total.tokens else "-",
                percent(parts["val"].tokens / tokens) if tokens else "-",
                f"{summary.files_skipped:,}",
                f"{summary.duplicates:,}",
            ]
        )
    columns = ["source", "documents", "tokens", "share", "held out", "skipped", "duplicates"]
    table(columns, rows)


def _print_lengths(lengths: Lengths) -> None:
    from fromscratch.report.length_picture import bin_name

    say("documents by length in tokens, end-of-text included")
    most = max((b.documents for b in lengths.bins), default=0)
    room = max(10, out.width - 32)
    mark = "#" if out.options.ascii_only else "\u2588"
    for part in lengths.bins:
        filled = round(room * part.documents / most) if most else 0
        bar = mark * max(filled, 1 if part.documents else 0)
        share = percent(part.documents / lengths.documents) if lengths.documents else "-"
        say(f"{bin_name(part):>12}  {part.documents:>11,} {share:>5} {bar}")
    say(
        f"shortest {lengths.shortest:,}, median {lengths.median:,}, mean {lengths.mean:,.0f}, "
        f"95% up to {lengths.p95:,}, longest {lengths.longest:,}"
    )
    if not lengths.documents:
        return
    longer, cropped = lengths.longer_than_context, lengths.cropped_tokens
    paragraph(
        f"{longer:,} documents ({percent(longer / lengths.documents)}) are longer than a context "
        f"of {lengths.context:,}. Cropping each to it would lose {cropped:,} tokens "
        f"({percent(cropped / max(1, lengths.tokens))}). Nothing is cropped here: windows are cut "
        "from all documents as one stream."
    )


def _print_samples(audit: Audit, seed: int) -> None:
    if not audit.samples:
        return
    say(f"{len(audit.samples)} random documents (--seed {seed})")
    for sample in audit.samples:
        say(f"{sample.place}, {sample.place.source}, {sample.tokens:,} tokens:")
        say(f"  {fitting(sample.beginning, out.width - 2)}")
    say()


def _print_tokens(audit: Audit) -> None:
    content = audit.content
    rows = [
        [fitting(token.text, 30), str(token.id), f"{token.count:,}", percent(token.share)]
        for token in content.frequent
    ]
    table(["most frequent tokens", "id", "count", "share"], rows)
    vocabulary = audit.manifest.vocab_size
    say(
        f"{content.never:,} of {vocabulary:,} ids ({percent(content.never / vocabulary)}) never "
        f"occur{'' if content.complete else ' in the text looked at'}."
    )
    if not content.complete:
        paragraph(f"Looked at here and below: {_shares(audit)}. --full looks at everything.")


def _shares(audit: Audit) -> str:
    """Which part of the text was looked at, in words."""
    looked = audit.content.looked_at
    return (
        f"{percent(looked['train'])} of the training and {percent(looked['val'])} of the held-out "
        f"tokens ({audit.content.tokens:,} in all), evenly spread"
    )


def _print_special(audit: Audit) -> None:
    if not audit.content.special:
        say("Special tokens spelled out in documents: none found.")
        return
    rows = [
        [s.text, f"{s.count:,}", f"{s.documents:,}", str(s.places[0])]
        for s in audit.content.special
    ]
    table(["special tokens as text", "count", "documents", "first in"], rows)
    say("They are encoded as text, not as special tokens (R09).")


def _print_copies(audit: Audit) -> None:
    content, held_out = audit.content, audit.splits["val"].documents
    seen = "" if content.complete else " in the text looked at"
    say("held-out documents that are in the training split too (R06)")
    if content.exact_copies:
        say(f"  word for word: {content.exact_copies:,} of {held_out:,}{seen}")
        for copy in content.exact_examples:
            say(f"    {copy.held_out} = {copy.training}")
            say(f"      {fitting(copy.beginning, out.width - 6)}")
    else:
        how = "every document was compared" if content.complete else "in the text looked at"
        say(f"  word for word: none ({how})")
    if content.near is None:
        say(f"  nearly: not looked for. {content.near_lacks}")
        return
    near = content.near
    share = f" ({percent(near.near / near.compared)})" if near.compared else ""
    say(f"  nearly: {near.near:,} of {near.compared:,} compared{share}{seen}")
    if near.passed_over:
        say(f"  {near.passed_over:,} held-out documents were too short to compare, or too many")
    for pair in near.pairs[:5]:
        say(f"    {pair.held_out} ~ {pair.training}, similarity {pair.similarity:.2f}")
        say(f"      {fitting(pair.held_out_text, out.width - 6)}")
        say(f"      {fitting(pair.training_text, out.width - 6)}")


def recipe_on(manifest: Manifest, data: Path) -> str:
    """A recipe that suits data of this size, with the changes that make it train on it."""
    tokenizer = manifest.tokenizer
    spec = f"bpe:{manifest.vocab_size}" if tokenizer == "bpe" else tokenizer
    small = manifest.total("tokens", "train") < _SMALL
    return (
        f"{'try' if small else 'modern-124m'} data.path={shlex.quote(str(data))} "
        f"data.tokenizer={spec} model.vocab_size={manifest.vocab_size}"
        + ("" if small else " model.padded_vocab=0")
    )


def _print_advice(manifest: Manifest, data: Path, sentences: list[str]) -> None:
    if sentences:
        say("What to do")
        for number, sentence in enumerate(sentences, start=1):
            paragraph(f"{number}. {sentence}")
    else:
        say("Nothing stands out. Next, what a training run on it would take:")
        say(f"  fromscratch plan {recipe_on(manifest, data)}")


def paragraph(text: str) -> None:
    """Says a text in lines as wide as the terminal."""
    say(textwrap.fill(text, max(40, out.width), break_long_words=False, break_on_hyphens=False))


def fitting(text: str, width: int) -> str:
    """The beginning of a text on one line: control characters made visible, `width` cells wide."""
    visible = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[: 4 * width])
    return visible if cell_len(visible) <= width else set_cell_size(visible, width).rstrip()
