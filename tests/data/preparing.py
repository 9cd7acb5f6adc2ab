"""Texts to prepare, and preparations that die: shared by the tests of resuming and of joining."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from pathlib import Path

import numpy as np

from fromscratch.data.options import Part, PrepareOptions
from fromscratch.data.prepare import prepare
from fromscratch.data.sources import Source

# A server that has imported what is needed and started no threads: its forks are quick and safe.
_CHILDREN = multiprocessing.get_context("forkserver")
_CHILDREN.set_forkserver_preload(["fromscratch.data.prepare"])


def texts(folder: Path, n: int, *, seed: int = 0) -> list[Source]:
    """Two sources of short documents, some of which are copies or near copies of earlier ones."""
    draw = random.Random(seed)
    words = [f"word{i}" for i in range(300)]
    sources = []
    earlier: list[list[str]] = []
    for name in ("one", "two"):
        (folder / name).mkdir(parents=True)
        for i in range(n):
            document = draw.choices(words, k=draw.randrange(5, 120))
            if earlier and i % 7 == 3:
                document = list(draw.choice(earlier))
            if earlier and i % 7 == 5:
                document = list(draw.choice(earlier))
                document[draw.randrange(len(document))] = "changed"
            earlier.append(document)
            (folder / name / f"{i:04}.txt").write_text(" ".join(document))
        (folder / name / "photo.jpg").write_bytes(b"\x00\xff")
        sources.append(Source(name, str(folder / name)))
    return sources


def settings(**changes: object) -> PrepareOptions:
    standard = {"tokenizer": "bytes", "val_fraction": 0.1, "documents": "file"}
    return PrepareOptions(**(standard | {"shard_tokens": 30_000} | changes))  # type: ignore[arg-type]


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def _prepare_and_die(
    sources: list[Source], folder: Path, options: PrepareOptions, at: int, part: Part | None
) -> None:
    """Runs in a child: the `at`-th operation on the disk is not survived.

    Nothing is forced to the disk: a killed process loses nothing of what it has written, and the
    order of the operations is what is tested.
    """
    left = at
    os.fsync = lambda descriptor: None

    def deadly(operation):  # type: ignore[no-untyped-def]
        def wrapped(*arguments, **named):  # type: ignore[no-untyped-def]
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return operation(*arguments, **named)

        return wrapped

    for name in ("fsync", "replace", "unlink", "mkdir"):
        setattr(os, name, deadly(getattr(os, name)))
    from fromscratch.data import prepare as module

    module._COMMIT_SECONDS = 0.0  # type: ignore[attr-defined]  # commit after every batch
    prepare(sources, folder, options, part=part, workers=1)


def killed(
    sources: list[Source],
    folder: Path,
    options: PrepareOptions,
    at: int,
    *,
    part: Part | None = None,
) -> bool:
    """Whether a preparation died at its `at`-th operation rather than finish before it."""
    child = _CHILDREN.Process(target=_prepare_and_die, args=(sources, folder, options, at, part))
    child.start()
    child.join(60)
    assert child.exitcode in (0, -signal.SIGKILL), child.exitcode
    return child.exitcode != 0


def complete_shards(folder: Path) -> list[str]:
    """Token shards whose header says as many tokens as the file holds, and not none."""
    complete = []
    for path in sorted(folder.glob("train-*.npy")):
        try:
            if len(np.load(path, mmap_mode="r")):
                complete.append(path.name)
        except (ValueError, OSError):
            pass
    return complete
