"""Opening prepared data of ten billion tokens: seconds and memory.

    python benchmarks/open_data.py [--tokens 10e9] [--shard-tokens 100e6]

The shards are sparse files, so they take no disk. Opened as the trainer does: manifest read and
checked, every shard's length looked at, streams of both splits, the first batch built.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from fromscratch.data.shards import Manifest, Shard, SourceSummary
from fromscratch.data.writer import npy_header
from fromscratch.foundation.names import documents_file, shard_file

_OPEN = """
import resource, sys, time
from pathlib import Path
from fromscratch.data.batches import TrainingData, TrainingSource, Windows
from fromscratch.data.shards import TokenStream, load_manifest
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
begin = time.perf_counter()
folder = Path(sys.argv[1])
manifest = load_manifest(folder)
streams = {s: TokenStream(folder, manifest.select(s)) for s in ("train", "val")}
windows = Windows(streams["train"], 1024)
data = TrainingData(
    [TrainingSource("big", 1.0, windows, manifest.fingerprint)], seed=0, eot_id=None
)
opened = time.perf_counter() - begin
data.batch(0, 512)
seconds = time.perf_counter() - begin
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(f"{len(streams['train']):,} training tokens in {len(manifest.shards)} shards: opened in "
      f"{opened:.3f} s, first batch of 512 x 1024 after {seconds:.3f} s, {grown / 1e3:.1f} MB more")
"""


def sparse_data(folder: Path, tokens: int, shard_tokens: int) -> None:
    """Writes a data folder whose shards are holes."""
    shards = []
    for split, n_shards in (("train", -(-tokens // shard_tokens)), ("val", 1)):
        for index in range(n_shards):
            name, documents = shard_file(split, index), documents_file(split, index)
            for file, dtype, count in (
                (name, np.dtype(np.uint16), shard_tokens),
                (documents, np.dtype(np.int64), shard_tokens // 1000 + 1),
            ):
                header = npy_header(dtype, count)
                with open(folder / file, "wb") as handle:
                    handle.write(header)
                    handle.truncate(len(header) + count * dtype.itemsize)
            shards.append(
                Shard(
                    name,
                    documents,
                    split,
                    "big",
                    shard_tokens,  # type: ignore[arg-type]
                    shard_tokens // 1000,
                    shard_tokens * 4,
                    "0" * 64,
                )
            )
    summary = SourceSummary("big", "big", tokens // 1000, tokens * 4, 0, 0, "0" * 64)
    Manifest(
        tokenizer="gpt2",
        tokenizer_fingerprint="0" * 64,
        vocab_size=50257,
        eot_id=50256,
        val_fraction=0.01,
        seed=0,
        dedup="none",
        sources=[summary],
        shards=shards,
    ).save(folder)


def main() -> None:
    """Prints one line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=float, default=10e9)
    parser.add_argument("--shard-tokens", type=float, default=100e6)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        sparse_data(Path(name), int(given.tokens), int(given.shard_tokens))
        subprocess.run([sys.executable, "-c", _OPEN, name], check=True, env=dict(os.environ))


if __name__ == "__main__":
    main()
