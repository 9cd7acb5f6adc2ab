"""What a run computes in.

In: the recipe's `train.precision` and the device. Out: a `Precision`, from which everything that
depends on it comes: the context of the forward pass, that of fp32 products, the loss scaler.

| precision | forward and backward      | weights, optimiser | needs                        |
|-----------|---------------------------|--------------------|------------------------------|
| `fp32`    | fp32                      | fp32               | nothing                      |
| `tf32`    | fp32; products of numbers | fp32               | CUDA, Ampere or later        |
|           | cut to 10 mantissa bits   |                    |                              |
| `bf16`    | autocast to bfloat16      | fp32               | Ampere, or a CPU that has it |
| `fp16`    | autocast to float16       | fp32               | CUDA; always a loss scaler   |

`auto` is bf16 on a CUDA device that has it in hardware, else (T4, V100, RTX 20) fp16; fp32 on a
CPU, where 16 bits gain little and cost exactness; fp32 on Apple's GPUs, which multiply fp32 and
16-bit numbers at nearly the same rate, so that autocast would add conversions and take precision.

Always true: the master weights are fp32 in all of them; fp16 without a loss scaler cannot be said;
a process-wide setting that is changed is put back.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Literal

import torch

from fromscratch.foundation.accelerators import PrecisionName
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.hardware import float32_products
from fromscratch.train.loss_scale import LossScaleConfig, LossScaler

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}
_TF32_SINCE = (8, 0)  # compute capability of Ampere


@dataclass(frozen=True)
class Precision:
    """What a run computes in, on one device.

    Attributes:
        name: `fp32`, `tf32`, `bf16` or `fp16`; never `auto`.
        device: Where.
        loss_scale: How fp16's scaler begins and grows.
    """

    name: PrecisionName
    device: torch.device
    loss_scale: LossScaleConfig = field(default_factory=LossScaleConfig)

    @property
    def dtype(self) -> torch.dtype:
        """Of the inputs of matrix products."""
        return _HALF.get(self.name, torch.float32)

    def autocast(self) -> AbstractContextManager[object]:
        """The context of a forward pass and its loss."""
        if self.name not in _HALF:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def in_force(self) -> AbstractContextManager[object]:
        """fp32 products are what this precision says, and afterwards what they were before.

        The setting is the process's: a run in tf32 must not leave it to the fp32 run after it, nor
        may a run in fp32 inherit what a notebook has set.
        """
        on = self.name == "tf32" and self.device.type == "cuda"
        return float32_products("high" if on else "highest")

    def scaler(self, state: Mapping[str, float] | None) -> LossScaler | None:
        """The loss scaler of the next step, from its state after the last; None but in fp16."""
        return LossScaler(self.loss_scale, state) if self.name == "fp16" else None

    def notes(self) -> list[str]:
        """What of it has no effect here, or a bad one, each as a sentence with what to do."""
        found = []
        if self.name == "tf32" and not _has_tf32(self.device):
            found.append(
                f'train.precision = "tf32" has no effect on {_describe(self.device)}: it computes '
                "in fp32"
            )
        if self.name == "bf16" and not _has_bf16(self.device):
            better = "fp16" if self.device.type == "cuda" else "fp32"
            found.append(
                f'train.precision = "bf16" is emulated on {_describe(self.device)}, which makes it '
                f"slow: train.precision={better} is faster"
            )
        if self.name == "fp16" and self.device.type == "cpu":
            found.append(
                'train.precision = "fp16" is slow on a CPU: train.precision=fp32 is faster'
            )
        if self.name != "fp16" and self.loss_scale != LossScaleConfig():
            found.append(
                f"[train.loss_scale] has no effect in {self.name}: only fp16 needs a loss scaler"
            )
        return found

    def __str__(self) -> str:
        return f"{self.name} on {self.device.type}"


def choose_precision(
    wanted: PrecisionName | Literal["auto"],
    device: torch.device,
    loss_scale: LossScaleConfig | None = None,
) -> Precision:
    """The precision that a recipe asks for; with `auto`, the best that the device has.

    Raises:
        UserError: The device cannot compute in it at all.
    """
    name: PrecisionName
    if wanted == "auto":
        name = "fp32"
        if device.type == "cuda":
            name = "bf16" if _has_bf16(device) else "fp16"
    else:
        name = wanted
    if name == "bf16" and device.type == "mps" and not torch.backends.mps.is_macos_or_newer(14, 0):
        raise UserError(
            'train.precision = "bf16" needs macOS 14 or later on an Apple GPU.',
            fix="Use train.precision=fp32 or fp16.",
        )
    return Precision(name, device, loss_scale or LossScaleConfig())


def _has_tf32(device: torch.device) -> bool:
    if device.type != "cuda" or torch.version.hip is not None:
        return False
    return torch.cuda.get_device_capability(device) >= _TF32_SINCE


def _has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is in hardware: emulated, it is many times slower than fp32."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        return any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return True


def _describe(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return "this CPU" if device.type == "cpu" else "an Apple GPU"
