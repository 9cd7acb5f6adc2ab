"""What vendors' data sheets say about accelerators, and what an hour of one costs. Without torch.

`accelerator_of` finds a card by the name that its driver reports; `accelerator_named` by the key
that a person types.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from fromscratch.foundation.errors import UserError, did_you_mean

PrecisionName = Literal["fp32", "tf32", "bf16", "fp16"]
PRECISIONS: tuple[PrecisionName, ...] = ("fp32", "tf32", "bf16", "fp16")


@dataclass(frozen=True)
class Accelerator:
    """One GPU model as its vendor's data sheet describes it.

    Attributes:
        name: What people call it.
        key: How a command line spells it.
        memory_bytes: Memory on the card.
        fp32: Peak of plain 32-bit arithmetic, in FLOP/s.
        tf32: Dense peak of 32-bit products rounded to 19 bits; None where the card has none.
        bf16: Dense peak with bfloat16 inputs and 32-bit sums; None likewise.
        fp16: Dense peak with half-precision inputs and 32-bit sums.
        price: US dollars for an hour of one, rented; None where no price was found.
        matches: Lower-case words, in a row, of the name that the driver reports.
    """

    name: str
    key: str
    memory_bytes: int
    fp32: float
    tf32: float | None
    bf16: float | None
    fp16: float
    price: float | None
    matches: tuple[str, ...]

    def flops(self, precision: PrecisionName) -> float | None:
        """Peak FLOP/s in a precision; None where the card lacks it."""
        peaks = {"fp32": self.fp32, "tf32": self.tf32, "bf16": self.bf16, "fp16": self.fp16}
        return peaks[precision]

    @property
    def best_precision(self) -> PrecisionName:
        """What `train.precision = "auto"` becomes on it: bf16 where it is there."""
        return "fp16" if self.bf16 is None else "bf16"


def _card(
    name: str,
    key: str,
    memory_gib: float,
    peaks: tuple[float, float | None, float | None, float],
    price: float | None,
    *matches: str,
) -> Accelerator:
    """A row; peaks in TFLOP/s: fp32, tf32, bf16, fp16."""
    fp32, tf32, bf16, fp16 = (None if peak is None else peak * 1e12 for peak in peaks)
    assert fp32 is not None
    assert fp16 is not None
    return Accelerator(
        name, key, round(memory_gib * 1024**3), fp32, tf32, bf16, fp16, price, matches
    )


# Peaks: NVIDIA's data sheets of P100, V100, T4, A10, A100, L4, L40S, H100, H200, RTX A4000 to
# RTX 6000 Ada, halved where they count sparsity; the whitepapers of the TU102, GA102, AD102 and
# "RTX Blackwell" architectures for GeForce, whose tensor cores run at half rate when they sum in 32
# bits, which training does; AMD's CDNA 3 whitepaper. Cores x 2 x boost clock where a paper leaves a
# card out (3060, 4060 Ti, 4070, Super).
#
# Prices, on demand, in US dollars, as the providers' pages had them in August to November 2026:
# RunPod community cloud (3090, 4090, L40S, A100, H100), RunPod secure cloud (H200), Jarvislabs
# (L4), Lambda (A6000); by AWS's list, us-east-1: g4dn.xlarge (T4), g5.xlarge (A10G), p3.2xlarge
# (V100). They differ by a factor of two to five between providers: say your own with --price.
ACCELERATORS = (
    _card("Tesla P100 PCIe", "p100", 16, (9.3, None, None, 18.7), None, "p100 pcie"),
    _card("Tesla T4", "t4", 15, (8.1, None, None, 65), 0.526, "t4"),
    _card("V100", "v100", 16, (15.7, None, None, 125), 3.06, "v100"),
    _card("RTX 2080 Ti", "rtx2080ti", 11, (13.4, None, None, 53.8), None, "rtx 2080 ti"),
    _card("RTX 3060", "rtx3060", 12, (12.7, 12.7, 25.5, 25.5), None, "rtx 3060"),
    _card("RTX 3070", "rtx3070", 8, (20.3, 20.3, 40.6, 40.6), None, "rtx 3070"),
    _card("RTX 3080", "rtx3080", 10, (29.8, 29.8, 59.5, 59.5), None, "rtx 3080"),
    _card("RTX 3090", "rtx3090", 24, (35.6, 35.6, 71, 71), 0.24, "rtx 3090"),
    # Sold with 8 GB too, under the same name.
    _card("RTX 4060 Ti", "rtx4060ti", 16, (22.1, 22.1, 44.1, 44.1), None, "rtx 4060 ti"),
    _card("RTX 4070", "rtx4070", 12, (29.1, 29.1, 58.3, 58.3), None, "rtx 4070"),
    _card("RTX 4070 Super", "rtx4070super", 12, (35.5, 35.5, 71, 71), None, "rtx 4070 super"),
    _card("RTX 4070 Ti", "rtx4070ti", 12, (40.1, 40.1, 80.2, 80.2), None, "rtx 4070 ti"),
    _card("RTX 4080", "rtx4080", 16, (48.7, 48.7, 97.5, 97.5), None, "rtx 4080"),
    _card("RTX 4090", "rtx4090", 24, (82.6, 82.6, 165.2, 165.2), 0.44, "rtx 4090"),
    _card("RTX 5070", "rtx5070", 12, (30.9, 30.9, 61.7, 61.7), None, "rtx 5070"),
    _card("RTX 5070 Ti", "rtx5070ti", 16, (43.9, 43.9, 87.9, 87.9), None, "rtx 5070 ti"),
    _card("RTX 5080", "rtx5080", 16, (56.3, 56.3, 112.6, 112.6), None, "rtx 5080"),
    _card("RTX 5090", "rtx5090", 32, (104.8, 104.8, 209.5, 209.5), None, "rtx 5090"),
    _card("RTX A4000", "a4000", 16, (19.2, 38.3, 76.7, 76.7), None, "rtx a4000"),
    _card("RTX A5000", "a5000", 24, (27.8, 55.6, 111.1, 111.1), None, "rtx a5000"),
    _card("RTX A6000", "a6000", 48, (38.7, 77.4, 154.8, 154.8), 0.80, "rtx a6000"),
    _card("RTX 6000 Ada", "rtx6000ada", 48, (91.1, 182.1, 364.2, 364.2), None, "rtx 6000 ada"),
    _card("A10", "a10", 24, (31.2, 62.5, 125, 125), None, "nvidia a10"),
    _card("A10G", "a10g", 24, (35, 35, 70, 70), 1.006, "a10g"),
    _card("L4", "l4", 24, (30.3, 60, 121, 121), 0.44, "nvidia l4"),
    _card("L40S", "l40s", 48, (91.6, 183, 362, 362), 0.99, "l40s"),
    _card("A100 40 GB", "a100", 40, (19.5, 156, 312, 312), 1.00, "a100"),
    _card(
        "A100 80 GB",
        "a100-80gb",
        80,
        (19.5, 156, 312, 312),
        1.39,
        "a100 sxm4 80gb",
        "a100 80gb pcie",
    ),
    _card("H100 PCIe", "h100-pcie", 80, (51, 378, 756, 756), 1.99, "h100 pcie"),
    _card("H100 SXM", "h100", 80, (67, 494.5, 989, 989), 2.69, "h100"),
    _card("H200", "h200", 131.3, (67, 494.5, 989, 989), 4.44, "h200"),
    _card("MI300X", "mi300x", 192, (163.4, 653.7, 1307.4, 1307.4), None, "instinct mi300x"),
)

_VARIANTS = {"ti", "d", "super", "laptop", "max", "mobile", "mig"}  # "max" as in Max-Q
_SLOWER_BOARDS = {"pcie", "nvl"}  # lower clocks, but for the A100, whose data sheet says the same


def accelerator_of(reported_name: str) -> Accelerator | None:
    """The table's row for a device name as the driver reports it, or None.

    Whole words count: an L40S is no L4. Nor is a slower or faster variant of a card that card: what
    a name says of a variant must stand in the row.
    """
    words = re.findall(r"[a-z0-9]+", reported_name.lower())
    spaced = f" {' '.join(words)} "
    found = [(m, a) for a in ACCELERATORS for m in a.matches if f" {m} " in spaced]
    if not found:
        return None
    match, row = max(found, key=lambda pair: len(pair[0]))
    unsaid = set(words) - set(match.split())
    slower = set() if row.key.startswith("a100") else _SLOWER_BOARDS
    return None if unsaid & (_VARIANTS | slower) else row


def accelerator_named(key: str) -> Accelerator:
    """The row that a person means by `rtx3090` or `RTX 3090`.

    Raises:
        UserError: No such card in the table.
    """
    plain = re.sub(r"[^a-z0-9]", "", key.lower())
    for row in ACCELERATORS:
        if plain in (re.sub(r"[^a-z0-9]", "", name.lower()) for name in (row.key, row.name)):
            return row
    keys = [row.key for row in ACCELERATORS]
    raise UserError(
        f'There is no GPU "{key}" in the table.{did_you_mean(plain, keys)}',
        fix=f"Known: {', '.join(keys)}; of any other, `fromscratch bench` measures the speed.",
    )
