"""Examples written as a stream of ids, beside them what is learned and where each begins.

In: examples one by one, and in the end their sides. Out: the files of examples.py, forced to the
disk, but for the manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
import numpy.typing as npt

from fromscratch.chat.conversations import Message
from fromscratch.data.examples import SIDES, SideCounts
from fromscratch.data.writer import npy_header
from fromscratch.foundation.files import sha256_of_file, write_atomically
from fromscratch.foundation.names import (
    EXAMPLES_IDS,
    EXAMPLES_LEARNED,
    EXAMPLES_SIDES,
    EXAMPLES_SPOOL,
    EXAMPLES_STARTS,
    EXAMPLES_TEST,
)
from fromscratch.tokenizer.tokenizer import Tokenizer


class ExampleWriter:
    """Writes the examples of one source; a context manager.

    Args:
        folder: Exists; what files of that name hold is overwritten.
        dtype: Of the ids.
        spool: Whether conversations are kept until it is known which are for the test.
    """

    def __init__(
        self, folder: Path, dtype: type[np.uint16] | type[np.uint32], *, spool: bool
    ) -> None:
        self.folder = folder
        self.dtype: np.dtype[np.generic] = np.dtype(dtype)
        self._open = ExitStack()
        self._ids = self._opened(EXAMPLES_IDS)
        self._learned = self._opened(EXAMPLES_LEARNED)
        self._ids.write(npy_header(self.dtype, 0))
        self._learned.write(npy_header(np.dtype(np.bool_), 0))
        self._spool = self._opened(EXAMPLES_SPOOL) if spool else None
        self._lengths: list[int] = []
        self._n_learned: list[int] = []
        self.sha256 = ""

    def _opened(self, name: str) -> BinaryIO:
        return self._open.enter_context(open(self.folder / name, "wb+"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open.close()
        (self.folder / EXAMPLES_SPOOL).unlink(missing_ok=True)

    def add(self, ids: Sequence[int], learned: Sequence[bool], messages: Sequence[Message]) -> None:
        """Takes an example."""
        self._ids.write(np.array(ids, dtype=self.dtype).tobytes())
        self._learned.write(np.array(learned, dtype=np.bool_).tobytes())
        self._lengths.append(len(ids))
        self._n_learned.append(sum(learned[1:]))
        if self._spool is not None:
            turns = [
                {"role": m.role, "content": m.content}
                | ({"context": m.context} if m.context else {})
                for m in messages
            ]
            self._spool.write((json.dumps({"messages": turns}) + "\n").encode())

    def finish(
        self, sides: npt.NDArray[np.uint8], tokenizer: Tokenizer
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Completes the files.

        Args:
            sides: (n,) of each example, as its place in SIDES.
            tokenizer: Written beside them.

        Returns:
            (n,) tokens of each example and (n,) how many of them are targets that are learned.
        """
        lengths = np.array(self._lengths, dtype=np.int64)
        for file, dtype in ((self._ids, self.dtype), (self._learned, np.dtype(np.bool_))):
            file.seek(0)
            file.write(npy_header(dtype, int(lengths.sum())))
            file.flush()
            os.fsync(file.fileno())
        starts = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
        for name, array in ((EXAMPLES_STARTS, starts), (EXAMPLES_SIDES, sides)):
            header = npy_header(array.dtype, len(array))
            write_atomically(self.folder / name, header + array.tobytes())
        if self._spool is not None:
            self._spool.seek(0)
            test = SIDES.index("test")
            lines = zip(self._spool, sides.tolist(), strict=True)
            write_atomically(
                self.folder / EXAMPLES_TEST, b"".join(line for line, side in lines if side == test)
            )
        tokenizer.save(self.folder)
        names = (EXAMPLES_IDS, EXAMPLES_LEARNED, EXAMPLES_STARTS, EXAMPLES_SIDES)
        hashes = "".join(f"{sha256_of_file(self.folder / name)}  {name}\n" for name in names)
        self.sha256 = hashlib.sha256(hashes.encode()).hexdigest()
        return lengths, np.array(self._n_learned, dtype=np.int64)


def side_counts(
    sides: npt.NDArray[np.uint8], lengths: npt.NDArray[np.int64], learned: npt.NDArray[np.int64]
) -> dict[str, SideCounts]:
    """Examples, tokens and learned tokens of each side."""
    return {
        name: SideCounts(
            examples=int((sides == number).sum()),
            tokens=int(lengths[sides == number].sum()),
            learned=int(learned[sides == number].sum()),
        )
        for number, name in enumerate(SIDES)
    }
