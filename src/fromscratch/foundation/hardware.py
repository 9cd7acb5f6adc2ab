"""What this machine can do: device, precision, and peak arithmetic rate.

The table answers without torch, so `plan` can use it; what needs torch imports it inside.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fromscratch.foundation.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Accelerator:
    """One GPU model as its vendor's data sheet describes it.

    Attributes:
        name: What people call it.
        key: How a command line spells it.
        flops: Dense peak in FLOP/s with 16-bit inputs and 32-bit accumulation.
        memory_bytes: Memory on the card.
        precision: The 16-bit format that its peak is for.
        matches: Lower-case words, in a row, of the name that the driver reports.
    """

    name: str
    key: str
    flops: float
    memory_bytes: int
    precision: str
    matches: tuple[str, ...]


_GIB = 1024**3

# Dense tensor-core peaks with fp32 accumulation, from NVIDIA's data sheets and whitepapers: T4
# (2018), V100 (2017), GA102 whitepaper (RTX 3090), AD102 whitepaper (RTX 4090), L4, A100, H100 and
# H200 SXM. GeForce cards run half the rate when they accumulate in fp32, which training does.
ACCELERATORS = (
    Accelerator("Tesla T4", "t4", 65e12, 15 * _GIB, "fp16", ("t4",)),
    Accelerator("V100", "v100", 125e12, 16 * _GIB, "fp16", ("v100",)),
    Accelerator("RTX 3060", "rtx3060", 25.6e12, 12 * _GIB, "bf16", ("rtx 3060",)),
    Accelerator("RTX 3090", "rtx3090", 71e12, 24 * _GIB, "bf16", ("rtx 3090",)),
    Accelerator("RTX 4090", "rtx4090", 165.2e12, 24 * _GIB, "bf16", ("rtx 4090",)),
    Accelerator("RTX 5090", "rtx5090", 209.5e12, 32 * _GIB, "bf16", ("rtx 5090",)),
    Accelerator("L4", "l4", 121e12, 24 * _GIB, "bf16", ("nvidia l4",)),
    Accelerator("A10G", "a10g", 70e12, 24 * _GIB, "bf16", ("a10g",)),
    Accelerator("A100", "a100", 312e12, 40 * _GIB, "bf16", ("a100",)),
    Accelerator("H100 SXM", "h100", 989e12, 80 * _GIB, "bf16", ("h100",)),
    Accelerator("H200", "h200", 989e12, 141 * 10**9, "bf16", ("h200",)),
)

_VARIANTS = {"ti", "d", "super", "laptop", "max", "mobile", "mig"}  # "max" as in Max-Q
_SLOWER_BOARDS = {"pcie", "nvl"}  # lower clocks, but for the A100, whose data sheet says the same


def accelerator_of(reported_name: str) -> Accelerator | None:
    """The table's row for a device name as the driver reports it, or None.

    Whole words count: an L40S is no L4. Nor is a slower or faster variant of a card that card.
    """
    words = re.findall(r"[a-z0-9]+", reported_name.lower())
    spaced = f" {' '.join(words)} "
    row = next((a for a in ACCELERATORS if any(f" {m} " in spaced for m in a.matches)), None)
    if row is None or _VARIANTS & set(words):
        return None
    if row.key != "a100" and _SLOWER_BOARDS & set(words):
        return None
    return row


def resolve_device(requested: str) -> torch.device:
    """The device for `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.

    Raises:
        UserError: The device is unknown or this machine does not have it.
    """
    import torch

    if requested == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(requested)
    except RuntimeError:
        hint = did_you_mean(requested, ("auto", "cpu", "cuda", "mps"))
        raise UserError(f'train.device = "{requested}" is not a device.{hint}') from None
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present.get(device.type, False):
        raise UserError(
            f'train.device = "{requested}", but torch finds no such device on this machine.',
            fix="Use train.device=auto, or install the torch build for your GPU.",
        )
    return device


@dataclass(frozen=True)
class Peak:
    """A device's arithmetic peak. `measured` says that no data sheet stands behind it."""

    flops: float
    measured: bool


def peak_flops(device: torch.device, dtype: torch.dtype) -> Peak:
    """Peak FLOP/s of a device: from the table where it is known, else a timed matrix product.

    Args:
        device: Where training runs.
        dtype: The inputs' type in matrix products.
    """
    import torch

    if device.type == "cuda" and dtype in (torch.bfloat16, torch.float16):
        row = accelerator_of(torch.cuda.get_device_name(device))
        if row is not None:
            return Peak(row.flops, measured=False)
    return Peak(_measure_matmul(device, dtype), measured=True)


def _measure_matmul(device: torch.device, dtype: torch.dtype) -> float:
    """The best FLOP/s of a few square matrix products, in well under a second."""
    import torch

    size = 1024 if device.type == "cpu" else 4096
    left = torch.ones(size, size, device=device, dtype=dtype)
    right = torch.ones(size, size, device=device, dtype=dtype)
    best = float("inf")
    for _ in range(8):
        synchronize(device)
        begin = time.perf_counter()
        torch.mm(left, right)
        synchronize(device)
        best = min(best, time.perf_counter() - begin)
    return 2.0 * size**3 / best


def synchronize(device: torch.device) -> None:
    """Waits until the device has done what was queued on it."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
