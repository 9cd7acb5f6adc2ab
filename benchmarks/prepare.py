"""Preparing text, end to end: speed against bare tiktoken, and peak memory.

    python benchmarks/prepare.py FILE.parquet ... [--megabytes 300] [--runs 3] [--memory]

The text is that of the files (their `text` column) and of the running Python's standard library,
repeated to the wanted size and written as Parquet in row groups of 1,000, as FineWeb's files are.

Peer: two processes of bare tiktoken `encode_ordinary`, each on its half of the documents, which are
in memory already; only encoding is timed, and nothing is written. Ours: the whole command
`fromscratch prepare`, from its start to the manifest, with gigatoken and without. The three take
turns; the medians are printed. With `--memory`, the peak resident memory for 100 MB and for 1 GB.
"""

from __future__ import annotations

import argparse
import multiprocessing
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import tiktoken

from fromscratch.data.sources import SourceReport, parse_sources


def texts_of(paths: list[str]) -> list[str]:
    """The documents of the files and of the standard library."""
    texts: list[str] = []
    for path in paths:
        texts += pq.read_table(path, columns=["text"])["text"].to_pylist()
    (stdlib,) = parse_sources(["stdlib"])
    return texts + [document.text for document in stdlib.documents(SourceReport())]


def repeated(texts: list[str], n_bytes: float) -> list[str]:
    """The texts over and over, to at least `n_bytes`."""
    size = sum(len(text.encode()) for text in texts)
    return texts * -(-int(n_bytes) // size)


def write(texts: list[str], folder: Path) -> int:
    """Writes Parquet files of some 100 MB of text; returns the bytes of text."""
    folder.mkdir()
    total = size = start = 0
    for end, text in enumerate(texts, 1):
        size += len(text.encode())
        if size >= 100e6 or end == len(texts):
            ids = [f"<urn:{n}>" for n in range(start, end)]
            table = pa.table({"text": texts[start:end], "id": ids})
            pq.write_table(table, folder / f"{start:09}.parquet", row_group_size=1000)
            total, size, start = total + size, 0, end
    return total


def _encode(texts: list[str], barrier: Barrier) -> None:
    encoding = tiktoken.get_encoding("gpt2")
    encoding.encode_ordinary("ready")
    barrier.wait()
    for text in texts:
        encoding.encode_ordinary(text)
    barrier.wait()


def bare_tiktoken(texts: list[str], processes: int = 2) -> float:
    """Seconds that the processes take, once all have their text."""
    context = multiprocessing.get_context("fork")  # the text is not copied
    barrier = context.Barrier(processes + 1)
    halves = [texts[i::processes] for i in range(processes)]
    children = [context.Process(target=_encode, args=(half, barrier)) for half in halves]
    for child in children:
        child.start()
    barrier.wait()
    begin = time.perf_counter()
    barrier.wait()
    seconds = time.perf_counter() - begin
    for child in children:
        child.join()
    return seconds


def prepare(source: Path, *options: str) -> tuple[float, float]:
    """Seconds and peak resident megabytes of the whole command."""
    out = source.parent / "out"
    command = [sys.executable, "-m", "fromscratch", "prepare", str(source), "--out", str(out)]
    begin = time.perf_counter()
    child = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL)
    peak = 0.0
    while child.poll() is None:
        peak = max(peak, _peak(child.pid))
        time.sleep(0.02)
    seconds = time.perf_counter() - begin
    assert child.returncode == 0, "prepare failed"
    shutil.rmtree(out)
    return seconds, peak


def _peak(pid: int) -> float:
    """The kernel's high-water mark (Linux); getrusage would count this process before exec too."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    lines = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(lines[0].split()[1]) / 1e3 if lines else 0.0


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="*")
    parser.add_argument("--megabytes", type=int, default=300)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    given = parser.parse_args()
    some = texts_of(given.files)
    with tempfile.TemporaryDirectory() as name:
        texts = repeated(some, given.megabytes * 1e6)
        megabytes = write(texts, Path(name) / "text") / 1e6
        print(f"{len(texts):,} documents, {megabytes:.0f} MB of text, {given.runs} runs")
        rates: dict[str, list[float]] = {"peer": [], "plain": [], "fast": []}
        for _ in range(given.runs):  # 0: memory alone
            rates["peer"].append(megabytes / bare_tiktoken(texts))
            rates["plain"].append(megabytes / prepare(Path(name) / "text", "--no-fast")[0])
            rates["fast"].append(megabytes / prepare(Path(name) / "text")[0])
        del texts
        medians = {kind: statistics.median(values or [1.0]) for kind, values in rates.items()}
        for kind, what in (
            ("peer", "two processes of bare tiktoken, text in memory"),
            ("plain", "fromscratch prepare --no-fast"),
            ("fast", "fromscratch prepare, with gigatoken"),
        ):
            ratio = medians[kind] / medians["peer"]
            spread = " ".join(f"{value:.1f}" for value in rates[kind])
            print(f"{what:<48} {medians[kind]:7.1f} MB/s  {ratio:5.2f} x   ({spread})")
        if given.memory:
            for n_bytes in (100e6, 1e9):
                source = Path(name) / f"text-{n_bytes:.0f}"
                write(repeated(some, n_bytes), source)
                for option in ("--no-fast", "--fast"):
                    seconds, peak = prepare(source, option)
                    print(
                        f"{n_bytes / 1e6:.0f} MB {option:<9} {peak:5.0f} MB peak, {seconds:.1f} s"
                    )


if __name__ == "__main__":
    main()
