"""Small real files to put on a hub, and two ways to look on."""

import io
import json
import random
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes in which every damage shows."""
    return random.Random(seed).randbytes(size)


def parquet(texts: list[str]) -> bytes:
    """A Parquet file with a column `text`."""
    out = io.BytesIO()
    pq.write_table(pa.table({"text": texts}), out)
    return out.getvalue()


def lines(texts: list[str]) -> bytes:
    """JSON lines with a field `text`."""
    return "".join(json.dumps({"text": t}) + "\n" for t in texts).encode()


def card(text: str) -> bytes:
    """A README.md with this front matter."""
    return f"---\n{text}\n---\n# A data set\n".encode()


def shards(count: int, size: int = 200_000) -> dict[str, bytes]:
    """Files of a training split, by path."""
    return {f"data/train-{n:05d}-of-{count:05d}.parquet": noise(size, n) for n in range(count)}


def bytes_in(folder: Path) -> int:
    """Bytes of all files that lie in a folder at this moment."""
    total = 0
    for path in folder.iterdir() if folder.exists() else []:
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            continue
    return total


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Returns when the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
