"""Files of named tensors: written and hashed in one pass, read one tensor at a time.

The format is safetensors: the header's length in 8 bytes, a JSON header, the tensors' bytes. The
library's writer wants all tensors contiguous on the host at once, and leaves the checksum to a
second reading of the file. Here each tensor is brought to the host and into order by itself, and
its bytes are hashed as they are written: a checkpoint takes the memory of its largest tensor beside
the state, and is never read back. What takes long (copying, hashing, writing, fsync) runs without
Python's lock, so that training goes on beside it. Reading is the library's.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fromscratch.foundation.errors import UserError

_CHUNK = 8 * 2**20
_NAMES = {
    torch.float64: "F64",
    torch.int64: "I64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int16: "I16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.bool: "BOOL",
}
_ORDER = list(_NAMES)  # wide types first, so that every tensor is aligned
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Writes a safetensors file and forces it to the disk.

    Args:
        path: The file; replaced.
        tensors: By name, on any device, in any memory order; they may share memory.

    Returns:
        The file's sha256 as hex.

    Raises:
        OSError: The disk is full or failing.
    """
    ordered = sorted(tensors.items(), key=lambda item: (_ORDER.index(item[1].dtype), item[0]))
    digest = hashlib.sha256()
    with open(path, "wb", buffering=0) as file:
        _write(file, _header(ordered), digest)
        for _, tensor in ordered:
            _write(file, _bytes_of(tensor), digest)
        os.fsync(file.fileno())
    return digest.hexdigest()


def _header(tensors: list[tuple[str, Tensor]]) -> memoryview:
    """Where each tensor's bytes are, padded to 8 bytes as the format asks."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    begin = 0
    for name, tensor in tensors:
        end = begin + tensor.numel() * tensor.element_size()
        entries[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
        begin = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return memoryview(len(text).to_bytes(8, "little") + text)


def _bytes_of(tensor: Tensor) -> memoryview:
    """A tensor's bytes in row-major order; a copy only where they do not lie so on the host.

    The copy is numpy's: torch would start as many threads for it as training has.
    """
    bits = tensor.detach().cpu().view(_BITS[tensor.element_size()]).numpy()
    return np.ascontiguousarray(bits).reshape(-1).view(np.uint8).data


def _write(file: IO[bytes], content: memoryview, digest: hashlib._Hash) -> None:
    """Writes and hashes piece by piece, while a piece is in the processor's cache."""
    for begin in range(0, len(content), _CHUNK):
        piece = content[begin : begin + _CHUNK]
        digest.update(piece)
        while len(piece):
            piece = piece[file.write(piece) :]


class TensorFile(Mapping[str, Tensor]):
    """A safetensors file as a mapping that reads a tensor each time it is asked for one.

    A tensor is a view of the mapped file; its pages count as this process's memory only as long as
    the tensor lives.

    Raises:
        UserError: It is damaged; also later, by reading.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._open() as file:
            self._names = dict.fromkeys(file.keys())

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        with self._open() as file:
            tensor: Tensor = file.get_tensor(name)
            return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def _open(self) -> safe_open:
        try:
            return safe_open(self.path, framework="pt")
        except (SafetensorError, OSError) as error:
            raise UserError(f"{self.path} cannot be read: {error}.") from None
