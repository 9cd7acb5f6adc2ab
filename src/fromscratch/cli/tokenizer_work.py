"""What `tokenizer train` and `tokenizer compare` do: sample text, wait for training, measure."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TypeVar

from fromscratch.cli.progress import bytes_a_second, progress
from fromscratch.cli.show import parse_size
from fromscratch.cli.working import working
from fromscratch.data.documents import Document, Split
from fromscratch.data.sample import HashSample, sample_sides
from fromscratch.data.settling import as_documents, default_val_fraction
from fromscratch.data.sources import Reading, Source, SourceReport, parse_sources
from fromscratch.foundation.errors import UserError
from fromscratch.tokenizer.build import make_tokenizer
from fromscratch.tokenizer.names import needs_training
from fromscratch.tokenizer.tokenizer import Tokenizer

T = TypeVar("T")

# Less text than this is encoded in too short a time to be measured.
_ENOUGH_TO_TIME = 1_000_000


@dataclass(frozen=True)
class Measured:
    """A tokenizer on held-out text.

    Attributes:
        name: As the user named it.
        vocab_size: Ids in all.
        tokens: On the held-out text.
        bytes_per_token: Of the held-out text.
        embedding: Parameters of the embedding.
        megabytes_per_s: Speed on one core; None where there is too little text to time.
    """

    name: str
    vocab_size: int
    tokens: int
    bytes_per_token: float
    embedding: int
    megabytes_per_s: float | None

    def to_json(self) -> dict[str, object]:
        """All of it."""
        return asdict(self)


def sides_of(
    specs: list[str], reading: Reading, *, sample: str, val_fraction: float | None, seed: int
) -> dict[Split, HashSample]:
    """A sample of what `prepare` would train on and hold out.

    Raises:
        UserError: There is no text, or nothing falls on one of the sides.
    """
    most_bytes = parse_size(sample)
    parsed = parse_sources(specs, reading)
    for source in parsed:
        if source.is_standard_input:
            raise UserError(
                "Standard input can be read only once.", fix="Put it into a file, and name that."
            )
        if source.tokenised:
            raise UserError(
                f"{source.spec} is tokens already, and not text.", fix="Name the text itself."
            )
    if val_fraction is None:
        val_fraction = default_val_fraction(parsed, least=0.01, seed=seed)
    elif not 0.0 <= val_fraction < 1.0:
        raise UserError(f"--val-fraction {val_fraction} is not between 0 and 1.")
    documents = _read(as_documents(parsed, ["auto"] * len(parsed)))
    sides = sample_sides(documents, most_bytes=most_bytes, val_fraction=val_fraction, seed=seed)
    if not any(side.bytes for side in sides.values()):
        raise UserError("There is no text in these sources.")
    if not sides["train"].bytes:
        raise UserError("All text was held out: there is none to learn from.", fix="Give more.")
    return sides


def _read(sources: list[Source]) -> Iterator[Document]:
    """All documents; on a terminal with a bar over the sizes of what is read."""
    portions = [(source, portion) for source in sources for portion in source.portions()]
    total, done = sum(portion.size for _, portion in portions), 0
    with progress(bytes_a_second) as report:
        for source, portion in portions:
            yield from source.read(portion, SourceReport())
            done += portion.size
            report("reading text", done, total)


@contextmanager
def waiting(what: str) -> Iterator[Callable[[Callable[[], T]], T]]:
    """Runs a long call of the library so that Ctrl-C is heard while it works.

    The library does not look for signals; it works on a thread that ends with the program.
    """

    def call(work: Callable[[], T]) -> T:
        done: list[T] = []
        failed: list[BaseException] = []

        def run() -> None:
            try:
                done.append(work())
            except BaseException as error:  # handed to the caller's thread
                failed.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(0.1)
        if failed:
            raise failed[0]
        return done[0]

    with working(what):
        yield call


def bytes_per_token(tokenizer: Tokenizer, texts: Iterable[str]) -> float | None:
    """Bytes of text that a token stands for; None where there is no text."""
    tokens, n_bytes = _encode_all(tokenizer, list(texts))
    return n_bytes / tokens if tokens else None


def measure(name: str, sides: dict[Split, HashSample], *, width: int) -> Measured:
    """Makes a candidate from the training side and encodes the held-out side with it.

    Raises:
        UserError: There is no such tokenizer, or nothing was held out.
    """
    texts = list(sides["val"].texts())
    if not any(texts):
        raise UserError(
            "Nothing was held out to compare on.", fix="Give more text, or raise --val-fraction."
        )
    if name == "chars":
        raise UserError(
            "A character vocabulary need not have the characters of held-out text.",
            fix='Compare "bytes" instead.',
        )
    if needs_training(name):
        with waiting(f"learning merges of {name}") as call:
            tokenizer = call(lambda: make_tokenizer(name, sides["train"].texts()))
    else:
        tokenizer = make_tokenizer(name)
    tokens, n_bytes = _encode_all(tokenizer, texts)
    seconds = None
    if n_bytes >= _ENOUGH_TO_TIME:
        tokenizer.choose_engine(fast=False)
        seconds = min(_seconds(tokenizer, texts) for _ in range(3))
    return Measured(
        name=name,
        vocab_size=tokenizer.vocab_size,
        tokens=tokens,
        bytes_per_token=n_bytes / tokens,
        embedding=tokenizer.vocab_size * width,
        megabytes_per_s=n_bytes / 1e6 / seconds if seconds else None,
    )


def _encode_all(tokenizer: Tokenizer, texts: list[str]) -> tuple[int, int]:
    """Tokens and bytes of the texts."""
    ids, _ = tokenizer.encode_ragged(texts)
    return len(ids), int(tokenizer.bytes_per_id[ids].sum())


def _seconds(tokenizer: Tokenizer, texts: list[str]) -> float:
    start = time.perf_counter()
    tokenizer.encode_ragged(texts)
    return time.perf_counter() - start
