"""Seeds are the same for ever and on every machine, and differ for everything that differs."""

from __future__ import annotations

import hashlib
import itertools

from hypothesis import given
from hypothesis import strategies as st

from fromscratch.foundation.seeds import derive_seed


def test_golden_values() -> None:
    # If these change, no older run can be resumed.
    assert derive_seed(0, "dropout", 1, 0) == 4_254_285_461_316_659_325
    assert derive_seed(1337, "order", "tiny", "abc") == 1_255_865_061_356_652_808
    assert derive_seed(2**63, "x") == 1_178_202_600_752_072_367


def test_the_construction_is_the_documented_one() -> None:
    digest = hashlib.sha256(b"int:7\x1fstr:dropout\x1fint:1200").digest()
    assert derive_seed(7, "dropout", 1200) == int.from_bytes(digest[:8], "big") // 2


def test_different_purposes_are_unrelated() -> None:
    seeds = [
        derive_seed(seed, purpose, step, rank)
        for seed, purpose, step, rank in itertools.product(
            range(5), ("dropout", "order", "epoch", "sample"), range(20), range(4)
        )
    ]
    assert len(set(seeds)) == len(seeds)
    # Unrelated: every bit is set about half the time over neighbouring positions.
    for bit in range(63):
        share = sum((s >> bit) & 1 for s in seeds) / len(seeds)
        assert 0.42 < share < 0.58


def test_the_type_and_the_grouping_of_parts_count() -> None:
    assert derive_seed(0, "1") != derive_seed(0, 1)
    assert derive_seed(0, "a", "b") != derive_seed(0, "ab")
    assert derive_seed(0, "a", "") != derive_seed(0, "a")
    assert derive_seed(1, 2) != derive_seed(12)


@given(seed=st.integers(), purpose=st.lists(st.one_of(st.text(), st.integers()), max_size=4))
def test_fits_what_torch_and_numpy_take(seed: int, purpose: list[str | int]) -> None:
    value = derive_seed(seed, *[p for p in purpose if not isinstance(p, str) or p.isprintable()])
    assert 0 <= value < 2**63
