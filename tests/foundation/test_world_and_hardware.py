"""Which process this is, and what the table of accelerators says."""

from __future__ import annotations

import pytest
import torch

from fromscratch.foundation.accelerators import (
    ACCELERATORS,
    accelerator_named,
    accelerator_of,
)
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.hardware import (
    _measure_products,
    available_memory,
    peak_flops,
    precisions_of,
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
        ("NVIDIA A100-SXM4-80GB", "a100-80gb"),
        ("NVIDIA A100 80GB PCIe", "a100-80gb"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA GeForce RTX 2080 Ti", "rtx2080ti"),
        ("NVIDIA GeForce RTX 4070 SUPER", "rtx4070super"),
        ("NVIDIA GeForce RTX 4070", "rtx4070"),
        ("NVIDIA GeForce RTX 5070 Ti", "rtx5070ti"),
        ("NVIDIA A10", "a10"),
        ("NVIDIA RTX A6000", "a6000"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx6000ada"),
        ("Tesla P100-PCIE-16GB", "p100"),
        ("AMD Instinct MI300X", "mi300x"),
    ],
)
def test_drivers_names_are_found_in_the_table(reported: str, key: str) -> None:
    found = accelerator_of(reported)
    assert found is not None
    assert found.key == key


@pytest.mark.parametrize(
    "reported",
    [
        "NVIDIA L40",
        "NVIDIA T400",
        "NVIDIA GeForce RTX 4070 Ti SUPER",
        "NVIDIA GeForce RTX 2080",
        "Quadro RTX 6000",
        "Tesla P100-SXM2-16GB",
        "NVIDIA GeForce RTX 3060 Ti",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GeForce RTX 3090 Ti",
        "NVIDIA GeForce RTX 5090 Laptop GPU",
        "NVIDIA H100 NVL",
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
    for card in ACCELERATORS:
        assert 2**33 <= card.memory_bytes < 2**38
        peaks = [card.fp32, card.tf32, card.bf16, card.fp16]
        known = [peak for peak in peaks if peak is not None]
        assert known == sorted(known), f"{card.name}: fewer bits are not slower"
        assert 5e12 < card.fp32 < 2e14
        assert (card.tf32 is None) == (card.bf16 is None), f"{card.name}: both came with Ampere"
        assert card.price is None or 0.05 < card.price < 10


@pytest.mark.parametrize(
    ("key", "cores", "megahertz", "products"),
    [  # cores, boost clock, and what a tensor core adds to plain arithmetic, by the data sheets
        ("t4", 2560, 1590, 8),
        ("v100", 5120, 1530, 8),
        ("rtx2080ti", 4352, 1545, 4),
        ("rtx3060", 3584, 1777, 2),
        ("rtx3090", 10496, 1695, 2),
        ("rtx4060ti", 4352, 2535, 2),
        ("rtx4090", 16384, 2520, 2),
        ("rtx5090", 21760, 2407, 2),
        ("l40s", 18176, 2520, 4),
        ("a100", 6912, 1410, 16),
        ("a6000", 10752, 1800, 4),
    ],
)
def test_peaks_are_cores_times_clock(key: str, cores: int, megahertz: int, products: int) -> None:
    card = accelerator_named(key)
    plain = 2 * cores * megahertz * 1e6
    assert card.fp32 == pytest.approx(plain, rel=0.02)
    assert card.fp16 == pytest.approx(products * plain, rel=0.02)


def test_cards_are_found_by_what_people_type() -> None:
    for typed in ("rtx3090", "RTX 3090", "rtx-3090", "Rtx3090"):
        assert accelerator_named(typed).key == "rtx3090"
    with pytest.raises(UserError, match='Did you mean "rtx4090"'):
        accelerator_named("rtx4900")


def test_available_memory_is_some_and_not_more_than_there_is() -> None:
    free = available_memory(torch.device("cpu"))
    assert 2**26 < free < 2**50
    assert precisions_of(torch.device("cpu"))[0] == "fp32"


def test_devices() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in ("cpu", "cuda", "mps")
    with pytest.raises(UserError, match='Did you mean "cuda"'):
        resolve_device("cudo")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match=r"train\.device=auto"):
            resolve_device("cuda")


def test_a_peak_that_no_table_has_is_measured_and_changes_nothing() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    before = torch.get_float32_matmul_precision()
    _measure_products.cache_clear()  # other tests' runs have measured it
    peak = peak_flops(torch.device("cpu"), "tf32")
    assert torch.equal(torch.rand(4), expected)
    assert torch.get_float32_matmul_precision() == before
    assert peak.measured
    assert 1e8 < peak.flops < 1e15
