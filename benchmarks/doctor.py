"""How long `fromscratch doctor` takes on data of ten billion tokens.

Makes a folder with the manifest, the document offsets and the (sparse, all-zero) token shards of so
much data, ten million documents, and times the command on it, and on a recipe that names it.

    python benchmarks/doctor.py [--tokens 10e9] [--turns 5]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from fromscratch.data.shards import Manifest, Shard, SourceSummary
from fromscratch.foundation.names import documents_file, shard_file
from fromscratch.tokenizer.build import bytes_tokenizer

SHARD_TOKENS = 100_000_000
DOCUMENT_TOKENS = 1_000


def sparse_shard(folder: Path, split: str, index: int, tokens: int) -> Shard:
    """A shard of zeros that takes no room, and the offsets of its documents."""
    path = folder / shard_file(split, index)
    with open(path, "wb") as file:
        header = {"descr": "<u2", "fortran_order": False, "shape": (tokens,)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 2 * tokens)
    offsets = np.arange(0, tokens + 1, DOCUMENT_TOKENS, dtype=np.int64)
    np.save(folder / documents_file(split, index), offsets)
    return Shard(
        file=path.name,
        documents_file=documents_file(split, index),
        split=split,  # type: ignore[arg-type]
        source="web",
        tokens=tokens,
        documents=len(offsets) - 1,
        bytes=tokens,
        sha256="0" * 64,
    )


def make_data(folder: Path, tokens: int) -> None:
    """Prepared data of so many tokens, none of which is on the disk."""
    tokenizer = bytes_tokenizer()
    tokenizer.save(folder)
    count = max(1, tokens // SHARD_TOKENS)
    shards = [sparse_shard(folder, "train", i, SHARD_TOKENS) for i in range(count)]
    shards.append(sparse_shard(folder, "val", 0, SHARD_TOKENS // 10))
    source = SourceSummary("web", "hf:web", len(shards), tokens, 0, 0, "0" * 64)
    Manifest(
        tokenizer=tokenizer.name,
        tokenizer_fingerprint=tokenizer.fingerprint,
        vocab_size=tokenizer.vocab_size,
        eot_id=tokenizer.eot_id,
        val_fraction=0.001,
        seed=0,
        dedup="none",
        sources=[source],
        shards=shards,
    ).save(folder)


def timed(*arguments: str) -> float:
    """Seconds of one call, from the start of Python to its end."""
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "fromscratch", "doctor", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    return time.perf_counter() - begin


def main() -> None:
    """Times both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=float, default=10e9)
    parser.add_argument("--turns", type=int, default=5)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        data = Path(place) / "data"
        data.mkdir()
        make_data(data, int(chosen.tokens))
        recipe = [
            "modern-124m",
            f"data.path={data}",
            "data.tokenizer=bytes",
            "model.vocab_size=257",
            "model.padded_vocab=320",
        ]
        for name, arguments in (("data", [str(data)]), ("recipe and data", recipe)):
            seconds = [timed(*arguments) for _ in range(chosen.turns)]
            print(
                f"doctor on {name}, {chosen.tokens:.3g} tokens: "
                f"{statistics.median(seconds):.2f} s (of {chosen.turns}: "
                f"{min(seconds):.2f} to {max(seconds):.2f})"
            )


if __name__ == "__main__":
    main()
