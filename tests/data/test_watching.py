"""How far the work is, as whoever watches it is told."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from fromscratch.data.compressed import zstd
from fromscratch.data.prepare import prepare
from fromscratch.data.sources import Source
from fromscratch.data.watching import Advance, Remark
from tests.data.preparing import settings

# Not equal ones, and more than a batch of them.
TEXTS = [" ".join(random.Random(i).choices("abcdefgh", k=20 + i)) for i in range(2_000)]
RECORDS = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS).encode()


def _parquet(path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"text": TEXTS}), path, row_group_size=300)


def _shard(path: Path) -> None:
    np.save(path, np.array([b for t in TEXTS for b in (*t.encode(), 256)], np.uint16))


WRITE = {
    "a.jsonl": lambda path: path.write_bytes(RECORDS),
    "a.jsonl.gz": lambda path: path.write_bytes(gzip.compress(RECORDS)),
    "a.jsonl.zst": lambda path: path.write_bytes(zstd.compress(RECORDS)),
    "a.json": lambda path: path.write_text(json.dumps([{"text": text} for text in TEXTS])),
    "a.txt": lambda path: path.write_text("\n\n".join(TEXTS)),
    "a.parquet": _parquet,
    "a.npy": _shard,
}


@pytest.mark.parametrize("name", WRITE)
def test_the_share_that_is_done_grows_as_the_text_is_read(name: str, tmp_path: Path) -> None:
    """Within one file, whatever its kind: nobody knows how many documents are in it."""
    WRITE[name](tmp_path / name)
    told: list[Advance | Remark] = []
    options = settings(documents="paragraph")
    prepare([Source("a", str(tmp_path / name))], tmp_path / "data", options, watch=told.append)
    done = [event for event in told if isinstance(event, Advance)]
    shares = [event.share for event in done]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(set(shares)) > 2, "it says how far it is before it is over"
    total = done[-1].bytes
    for event in done:  # a compressed file is read in pieces of 64 KB and more
        assert abs(event.share - event.bytes / total) < 0.35, (event, total)
    assert done[-1].documents == len(TEXTS)
