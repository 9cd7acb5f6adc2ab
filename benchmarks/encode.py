"""Encoding speed: bytes of text per second, by engine and number of threads, on text in memory.

    python benchmarks/encode.py FILE ...      (Parquet with a `text` column, or text files)

The standard library's source is always added. Peers: bare tiktoken `encode_ordinary`, and Hugging
Face tokenizers. Ours is `Tokenizer.encode_ragged`, in batches of a megabyte, with gigatoken where
it is installed and without. What is printed is the best of three passes over all of the text; for
gigatoken, whose cache of words fills in the first pass, that one too.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.parquet as pq
import tiktoken

from fromscratch.data.sources import SourceReport, parse_sources
from fromscratch.tokenizer.build import gpt2_tokenizer
from fromscratch.tokenizer.tokenizer import Tokenizer

_BATCH = 1_000_000
_PASSES = 3


def texts_of(paths: list[str]) -> list[str]:
    """The documents of the files and of the standard library."""
    texts: list[str] = []
    for path in map(Path, paths):
        if path.suffix == ".parquet":
            texts += pq.read_table(path, columns=["text"])["text"].to_pylist()
        else:
            texts.append(path.read_text(encoding="utf-8"))
    (stdlib,) = parse_sources(["stdlib"])
    return texts + [document.text for document in stdlib.documents(SourceReport())]


def batches(texts: list[str]) -> Iterator[list[str]]:
    """Documents in groups of about a megabyte."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    yield batch


def seconds(encode: Callable[[list[str]], object], texts: list[str], threads: int) -> list[float]:
    """Of each pass over the texts."""
    grouped = list(batches(texts))
    taken = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(_PASSES):
            start = time.perf_counter()
            for _ in pool.map(encode, grouped):
                pass
            taken.append(time.perf_counter() - start)
    return taken


def main() -> None:
    """Prints one row for each engine and number of threads."""
    texts = texts_of(sys.argv[1:])
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    print(f"{len(texts):,} documents, {megabytes:.1f} MB")
    gpt2 = gpt2_tokenizer()
    peer = tiktoken.get_encoding("gpt2")
    plain, fast = (Tokenizer(gpt2._content, name="gpt2") for _ in range(2))
    plain.choose_engine(fast=False)
    start = time.perf_counter()
    note = fast.choose_engine()
    print(f"{note} Made and compared in {time.perf_counter() - start:.2f} s.")
    engines: dict[str, Callable[[list[str]], object]] = {
        "tiktoken encode_ordinary, bare": lambda batch: [peer.encode_ordinary(t) for t in batch],
        "ours without gigatoken": plain.encode_ragged,
        "ours": fast.encode_ragged,
        "Hugging Face tokenizers (its own threads)": lambda batch: gpt2._fast.encode_batch_fast(
            batch, add_special_tokens=False
        ),
    }
    for name, encode in engines.items():
        for threads in (1, 2):
            taken = seconds(encode, texts, threads)
            first, best = (megabytes / s for s in (taken[0], min(taken)))
            print(f"{name:<44} {threads} threads: first {first:6.1f}, best {best:6.1f} MB/s")


if __name__ == "__main__":
    main()
