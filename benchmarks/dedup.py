"""How fast duplicates are found, beside the obvious ways of doing it, in one run.

    python benchmarks/dedup.py --parquet FOLDER --documents 1000000

Measures bytes of text per second of `near_bands` on one and two threads, against datasketch and
rensa fed with strings; the error of the estimated similarity of both packages; and documents per
second of `Seen` against a table in SQLite. Texts are the standard library's source and, with
--parquet, the files in FOLDER with a column "text".
"""

from __future__ import annotations

import argparse
import re
import resource
import sqlite3
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from fromscratch.data.duplicates import Seen, near_bands
from fromscratch.data.minhash import N_BANDS, SIGNATURE, signatures

_WORD = re.compile(r"\w+")


def main() -> None:
    """Parses the arguments and prints the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parquet", type=Path, help="a folder of Parquet files")
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--sqlite-documents", type=int, default=200_000)
    parser.add_argument("--folder", type=Path, default=None, help="where the tables are kept")
    arguments = parser.parse_args()
    texts = [p.read_text("utf-8", "replace") for p in _standard_library()]
    if arguments.parquet:
        for path in sorted(arguments.parquet.glob("*.parquet")):
            texts += pq.read_table(path, columns=["text"])["text"].to_pylist()
    measure_signatures(texts)
    measure_accuracy()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        measure_seen(Path(folder), arguments.documents, arguments.sqlite_documents)


def measure_signatures(texts: list[str]) -> None:
    """Prints the rates at which texts become band keys."""
    import datasketch
    import rensa

    size = sum(len(text.encode()) for text in texts) / 1e6
    print(f"{len(texts):,} documents, {size:.1f} MB")
    near_bands(texts[:10])
    ours = _rate(size, lambda: near_bands(texts))
    print(f"near_bands, one thread          {ours:7.1f} MB/s")
    with ThreadPoolExecutor(2) as pool:
        both = _rate(2 * size, lambda: list(pool.map(near_bands, [texts, texts])))
    print(f"near_bands, two threads         {both:7.1f} MB/s   {both / ours:.2f} of one")
    cut = _rate(size, lambda: [_runs(text) for text in texts])
    print(f"runs of words as strings alone  {cut:7.1f} MB/s   {cut / ours:.2f}")

    def with_rensa() -> None:
        rensa.RMinHash.digests_from_token_sets([_runs(text) for text in texts], SIGNATURE, 1)

    theirs = _rate(size, with_rensa)
    print(f"rensa RMinHash of strings       {theirs:7.1f} MB/s   {theirs / ours:.2f}")

    def with_rensa_c() -> None:
        rensa.CMinHash.digests_from_token_sets([_runs(text) for text in texts], SIGNATURE, 1)

    theirs = _rate(size, with_rensa_c)
    print(f"rensa CMinHash of strings       {theirs:7.1f} MB/s   {theirs / ours:.2f}")

    few = texts[::10]

    def with_datasketch() -> None:
        for text in few:
            sketch = datasketch.MinHash(SIGNATURE, seed=1)
            sketch.update_batch([run.encode() for run in _runs(text)])

    theirs = _rate(sum(len(text.encode()) for text in few) / 1e6, with_datasketch)
    print(f"datasketch of strings           {theirs:7.1f} MB/s   {theirs / ours:.2f}")


def measure_accuracy() -> None:
    """Prints how far the estimated similarity is from the true one, ours and datasketch's."""
    import datasketch

    rng = np.random.default_rng(0)
    print("\ntrue similarity   mean and spread of 300 estimates: ours, datasketch; ideal spread")
    for similarity in (0.3, 0.5, 0.75, 0.9):
        ours, theirs = [], []
        for _ in range(300):
            common = round(500 * 2 * similarity / (1 + similarity))
            words = [f"w{n}" for n in rng.integers(0, 10**12, 1004 - common)]
            # All runs of five of a list of words; the two lists share the first ones.
            first, second = words[: 500 + 4], words[: common + 4] + words[504:]
            true = len(set(_of(first)) & set(_of(second))) / len(set(_of(first)) | set(_of(second)))
            a, b = signatures([" ".join(first), " ".join(second)])[0]
            ours.append(float((a == b).mean()) - true)
            sketches = []
            for side in (first, second):
                sketches.append(datasketch.MinHash(SIGNATURE, seed=1))
                sketches[-1].update_batch([run.encode() for run in _of(side)])
            theirs.append(sketches[0].jaccard(sketches[1]) - true)
        ideal = (similarity * (1 - similarity) / SIGNATURE) ** 0.5
        print(
            f"{similarity:15.2f}   {np.mean(ours):+.4f} {np.std(ours):.4f}   "
            f"{np.mean(theirs):+.4f} {np.std(theirs):.4f}   {ideal:.4f}"
        )


def measure_seen(folder: Path, documents: int, sqlite_documents: int) -> None:
    """Prints the rates at which documents are decided on."""
    print("\ndocuments decided on per second, all new, in batches of 256")
    for near in (False, True):
        kind = "near" if near else "exact"
        counts = sorted({sqlite_documents, documents})
        for count in counts:
            seen = Seen(folder / f"{kind}-{count}", near=near)
            rate = _decide(seen.keep, count, near)
            seen.commit()
            size = (folder / f"{kind}-{count}").stat().st_size / 1e6
            start = time.perf_counter()
            seen.forget_from(count // 2)
            back = time.perf_counter() - start
            seen.close()
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"{kind:5} Seen   {count:11,}   {rate:11,.0f}/s   log {size:,.0f} MB, "
                f"back to half {back:.2f} s, peak memory so far {peak:.0f} MB"
            )
        table = _Sqlite(folder / f"{kind}.db")
        rate = _decide(table.keep, sqlite_documents, near)
        print(f"{kind:5} SQLite {sqlite_documents:11,}   {rate:11,.0f}/s")


class _Sqlite:
    """The same decisions by an indexed table: simplified, since nothing repeats here."""

    def __init__(self, path: Path) -> None:
        self._base = sqlite3.connect(path)
        self._base.execute("PRAGMA journal_mode = OFF")
        self._base.execute("PRAGMA synchronous = OFF")
        self._base.execute("PRAGMA cache_size = -32000")
        self._base.execute("CREATE TABLE seen (mark INTEGER PRIMARY KEY, document INTEGER)")

    def keep(
        self, first: int, keys: npt.NDArray[np.uint8], bands: npt.NDArray[np.uint64] | None
    ) -> None:
        marks = keys.view(np.int64)[:, :1]
        if bands is not None:
            marks = np.column_stack([marks, bands.view(np.int64)])
        rows = [(mark, first + i) for i, row in enumerate(marks.tolist()) for mark in row]
        with self._base:
            self._base.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?)", rows)


def _decide(keep: Callable[..., object], count: int, near: bool) -> float:
    """Documents per second of `keep`, without making their keys up."""
    rng = np.random.default_rng(0)
    seconds = 0.0
    for first in range(0, count, 256):
        keys = rng.integers(0, 256, (256, 16), dtype=np.uint8)
        bands = rng.integers(1, 2**64, (256, N_BANDS), dtype=np.uint64) if near else None
        start = time.perf_counter()
        keep(first, keys, bands)
        seconds += time.perf_counter() - start
    return count / seconds


def _runs(text: str) -> list[str]:
    return _of(_WORD.findall(text.lower()))


def _of(words: list[str]) -> list[str]:
    return [" ".join(words[i : i + 5]) for i in range(len(words) - 4)]


def _rate(size: float, act: Callable[[], object]) -> float:
    """Megabytes per second of the best of three calls."""
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        act()
        seconds.append(time.perf_counter() - start)
    return size / min(seconds)


def _standard_library() -> Iterator[Path]:
    yield from sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))


if __name__ == "__main__":
    main()
