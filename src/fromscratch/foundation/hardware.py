"""What this machine can do: device, precisions, memory, and peak arithmetic rate.

Peaks come from the data sheets in accelerators.py where the device is there; elsewhere a matrix
product is timed, and whoever shows the number says which of the two it is (R31). What needs torch
imports it inside.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fromscratch.foundation.accelerators import PrecisionName, accelerator_of
from fromscratch.foundation.errors import UserError, did_you_mean
from fromscratch.foundation.host_memory import peak_resident_bytes

if TYPE_CHECKING:
    import torch


def resolve_device(requested: str, *, setting: str = "train.device=") -> torch.device:
    """The device for `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.

    Args:
        requested: One of these.
        setting: How messages spell what the person has set, up to the value.

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
        raise UserError(f"{setting}{requested} is not a device.{hint}") from None
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not present.get(device.type, False):
        raise UserError(
            f"{setting}{requested}, but torch finds no such device on this machine.",
            fix=f"Use {setting}auto, or install the torch build for your GPU.",
        )
    return device


def device_name(device: torch.device) -> str:
    """What a person calls the device."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"


def precisions_of(device: torch.device) -> list[PrecisionName]:
    """The precisions that the device computes in with hardware of its own, slowest first.

    A CPU has bf16 where it has instructions for it; elsewhere bf16 works, but slower than fp32.
    """
    import torch

    if device.type == "cuda":
        found: list[PrecisionName] = ["fp32"]
        if torch.cuda.get_device_capability(device) >= (8, 0):
            found.append("tf32")
        if torch.cuda.is_bf16_supported(including_emulation=False):
            found.append("bf16")
        return [*found, "fp16"]
    if device.type == "mps":
        return ["fp32", "fp16"]
    flags = _first_line("/proc/cpuinfo", "flags")
    return ["fp32", "bf16"] if {"avx512_bf16", "amx_bf16"} & set(flags.split()) else ["fp32"]


# --- memory ---------------------------------------------------------------------------------------


def available_memory(device: torch.device) -> int:
    """Bytes that a process started now could take on the device.

    On a CPU what the kernel estimates to be available without swapping, or less where the process
    lives in a container, or under a `ulimit`, with a limit of its own.
    """
    import torch

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory())
    known = [_meminfo("MemAvailable"), _container_room(), _allowed_room()]
    sizes = [size for size in known if size is not None]
    if sizes:
        return min(sizes)
    with suppress(ValueError, OSError, AttributeError):  # macOS: all of it; Windows: unknown
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 2**63 - 1


def _meminfo(key: str) -> int | None:
    value = _first_line("/proc/meminfo", key).split()
    return int(value[0]) * 1024 if value else None


def _container_room() -> int | None:
    """What is left below the limit of the control group, version 2 or 1; None without a limit.

    Files that were read and not used for a while count as used there, and are given up first.
    """
    root = Path("/sys/fs/cgroup")
    for limit, used, statistics in (
        ("memory.max", "memory.current", "memory.stat"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
    ):
        with suppress(OSError, ValueError):  # "max" is no number: no limit
            room = int((root / limit).read_text()) - int((root / used).read_text())
            rows = dict(line.split() for line in (root / statistics).read_text().splitlines())
            return max(0, room + int(rows.get("inactive_file", 0)))
    return None


def _allowed_room() -> int | None:
    """What `ulimit -d` and `ulimit -v` leave this process; None where they set no limit."""
    try:
        import resource
    except ImportError:  # Windows has none
        return None
    rooms = []
    for limit, key in ((resource.RLIMIT_DATA, "VmData"), (resource.RLIMIT_AS, "VmSize")):
        soft, _ = resource.getrlimit(limit)
        used = _first_line("/proc/self/status", key).split()
        if soft != resource.RLIM_INFINITY and used:
            rooms.append(max(0, soft - int(used[0]) * 1024))
    return min(rooms, default=None)


def _first_line(path: str, key: str) -> str:
    """What stands behind `key:` in a file of the kernel's; nothing where there is no such file."""
    with suppress(OSError), open(path, encoding="utf-8") as lines:
        for line in lines:
            name, _, value = line.partition(":")
            if name.strip() == key:
                return value.strip()
    return ""


# --- arithmetic -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Peak:
    """A device's arithmetic peak. `measured` says that no data sheet stands behind it."""

    flops: float
    measured: bool


def peak_flops(device: torch.device, precision: PrecisionName) -> Peak:
    """Peak FLOP/s of a device: from the table where it is known, else of timed matrix products.

    Args:
        device: Where training runs.
        precision: Of matrix products.
    """
    import torch

    if device.type == "cuda":
        row = accelerator_of(torch.cuda.get_device_name(device))
        flops = None if row is None else row.flops(precision)
        if flops is not None:
            return Peak(flops, measured=False)
    if device.type == "cpu" and precision not in precisions_of(device):
        precision = "fp32"  # emulated in it: there is no other peak
    return Peak(_measure_products(device, precision), measured=True)


_SIZES = (512, 1024, 1536, 2048, 4096, 8192)
_ALWAYS = 1024
_SECONDS_A_PRODUCT = 0.05
_TIMES = 3


def _measure_products(device: torch.device, precision: PrecisionName) -> float:
    """The best FLOP/s over square matrix products of growing size, in about a fifth of a second.

    Small ones do not fill a device, and very large ones may run at a lower clock: the best of all
    is the peak. A size whose product would take longer than a twentieth of a second is not tried,
    but a few are always: on a busy machine the smallest may seem to take for ever.
    """
    import torch

    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    draw = torch.Generator(device).manual_seed(0)  # nobody else's random numbers change
    best = 0.0
    with float32_products("high" if precision == "tf32" else "highest"):
        for size in _SIZES:
            work = 2.0 * size**3
            if size > _ALWAYS and work / best > _SECONDS_A_PRODUCT:
                break
            left, right = (
                torch.randn(size, size, device=device, generator=draw).to(dtype) for _ in range(2)
            )
            out = torch.mm(left, right)  # the first one loads the kernel
            for _ in range(_TIMES):
                synchronize(device)
                begin = time.perf_counter()
                torch.mm(left, right, out=out)
                synchronize(device)
                best = max(best, work / (time.perf_counter() - begin))
    return best


@contextmanager
def float32_products(precision: str) -> Iterator[None]:
    """Whether 32-bit products may be rounded inside, for the duration."""
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def peak_memory_gb(device: torch.device) -> float | None:
    """The most memory that a run has taken so far, in 1e9 bytes; None where nobody can tell.

    Of a CUDA device what tensors had, of Apple's what the driver gave out by now, of a CPU what the
    whole process held.
    """
    import torch

    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    if device.type == "mps":
        return torch.mps.driver_allocated_memory() / 1e9
    held = peak_resident_bytes()
    return None if held is None else held / 1e9


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A host's tensor on the device; to a CUDA device the copy is queued, and nobody waits for it.

    On Apple's GPUs such a copy may read the host's memory when it is another tensor's already
    (github.com/pytorch/pytorch/issues/189690): batches would be corrupted in silence.
    """
    return tensor.to(device, non_blocking=device.type == "cuda")


def synchronize(device: torch.device) -> None:
    """Waits until the device has done what was queued on it."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
