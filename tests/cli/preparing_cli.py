"""`fromscratch prepare` in processes of its own, and what lies in the folders that it makes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from fromscratch.data.documents import SPLITS
from fromscratch.data.shards import load_manifest
from fromscratch.foundation.names import shard_file
from fromscratch.tokenizer.tokenizer import load_tokenizer
from tests.forking.forks import Answer, shared_forks

ENVIRONMENT = {"NO_COLOR": "1", "COLUMNS": "200"}
BYTES = ("--tokenizer", "bytes", "--val-fraction", "0.1")


def start(*words: str | Path, cwd: Path, **more: Any) -> subprocess.Popen[bytes]:
    """The command line, under way."""
    environment = os.environ | ENVIRONMENT | more.pop("environment", {})
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
    return subprocess.Popen(
        [sys.executable, "-m", "fromscratch", *map(str, words)],
        cwd=cwd,
        env=environment,
        **(pipes | more),
    )


def answer_of(process: subprocess.Popen[bytes], given: bytes | None = None) -> Answer:
    """What it said, once it has ended."""
    out, err = process.communicate(given, timeout=120)
    return Answer(process.returncode, out.decode(), err.decode())


def run(*words: str | Path, cwd: Path, given: bytes | None = None, **more: Any) -> Answer:
    """The command line, to its end; `given` comes through a pipe."""
    if given is None and not more:
        return shared_forks().run(*map(str, words), cwd=cwd)
    if given is not None:
        more["stdin"] = subprocess.PIPE
    return answer_of(start(*words, cwd=cwd, **more), given)


def prepare(*words: str | Path, cwd: Path, **more: Any) -> Answer:
    """A preparation that succeeds."""
    answer = run("prepare", *words, cwd=cwd, **more)
    assert answer.code == 0, answer
    return answer


def documents(folder: Path, source: str | None = None) -> list[str]:
    """The documents of both splits, sorted: as text, by the tokenizer that lies beside them."""
    manifest, tokenizer = load_manifest(folder), load_tokenizer(folder)
    found = []
    for split in SPLITS:
        for shard in manifest.select(split, source):
            tokens = np.load(folder / shard.file)
            for first, end in pairwise(np.load(folder / shard.documents_file)):
                found.append(tokenizer.decode(tokens[first : end - 1].tolist()))
    return sorted(found)


def tokens_of(folder: Path) -> dict[str, bytes]:
    """The shards, by name: what the text became, wherever it lay."""
    return {p.name: p.read_bytes() for p in sorted(folder.glob("*.npy"))}


def files(folder: Path) -> dict[str, bytes]:
    """Everything in a folder, by name."""
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def texts(n: int, kind: str = "text") -> list[str]:
    """Texts of which no two are alike."""
    return [f"The {kind} number {i}\nis followed by {i + 1}. " * (1 + i % 9) for i in range(n)]


def write_texts(folder: Path, wanted: Sequence[str]) -> None:
    """One file a text."""
    folder.mkdir(parents=True)
    for number, text in enumerate(wanted):
        (folder / f"{number:05}.txt").write_text(text)


def wait_for_shards(process: subprocess.Popen[bytes], folder: Path, n: int) -> None:
    """Returns when some shards are there, while the process is still at it."""
    while not (folder / shard_file("train", n)).exists():
        assert process.poll() is None, "it was over before anything could happen to it"
        time.sleep(0.001)
