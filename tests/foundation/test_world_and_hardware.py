"""Which process this is, and what the table of accelerators says."""

from __future__ import annotations

import pytest
import torch

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.hardware import (
    ACCELERATORS,
    accelerator_of,
    peak_flops,
    resolve_device,
)
from fromscratch.foundation.world import World, world_from_environment


def test_alone_and_among_others() -> None:
    assert world_from_environment({}) == World(0, 1, 0)
    assert world_from_environment({}).is_main
    here = world_from_environment({"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"})
    assert here == World(rank=3, size=8, local_rank=1, launched=True)
    assert not here.is_main


@pytest.mark.parametrize(("machines", "attempt"), [("1", 2), ("2", 0)])
def test_restarts_are_told_apart_on_one_machine(machines: str, attempt: int) -> None:
    launched = {"RANK": "0", "WORLD_SIZE": "2", "TORCHELASTIC_RESTART_COUNT": "2"}
    assert world_from_environment(launched | {"GROUP_WORLD_SIZE": machines}).attempt == attempt


@pytest.mark.parametrize(
    ("reported", "key"),
    [
        ("Tesla T4", "t4"),
        ("NVIDIA GeForce RTX 3090", "rtx3090"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA A100-SXM4-40GB", "a100"),
        ("NVIDIA A100-PCIE-40GB", "a100"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA A10G", "a10g"),
        ("Tesla V100-SXM2-16GB", "v100"),
    ],
)
def test_drivers_names_are_found_in_the_table(reported: str, key: str) -> None:
    found = accelerator_of(reported)
    assert found is not None
    assert found.key == key


@pytest.mark.parametrize(
    "reported",
    [
        "NVIDIA L40S",
        "NVIDIA T400",
        "NVIDIA GeForce RTX 3060 Ti",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GeForce RTX 3090 Ti",
        "NVIDIA GeForce RTX 5090 Laptop GPU",
        "NVIDIA H100 PCIe",
        "NVIDIA H200 NVL",
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        "NVIDIA GH200 480GB",
        "Tesla V100-PCIE-16GB",
        "Quadro P5000",
        "AMD MI300X",
    ],
)
def test_other_cards_are_not_taken_for_one_of_them(reported: str) -> None:
    assert accelerator_of(reported) is None


def test_the_table_has_one_row_a_card() -> None:
    assert len({a.key for a in ACCELERATORS}) == len(ACCELERATORS)
    assert all(1e12 < a.flops < 1e16 and a.memory_bytes > 2**33 for a in ACCELERATORS)


def test_devices() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(UserError, match='Did you mean "cuda"'):
        resolve_device("cudo")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match=r"train\.device=auto"):
            resolve_device("cuda")


def test_a_peak_that_no_table_has_is_measured_and_says_so() -> None:
    peak = peak_flops(torch.device("cpu"), torch.float32)
    assert peak.measured
    assert 1e8 < peak.flops < 1e15
