"""Numbers as people read them, on hand-written cases."""

from __future__ import annotations

import math

import pytest

from fromscratch.report import numerals


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (125, "2 min 05 s"),
        (11_520, "3 h 12 min"),
        (187_200, "2 d 4 h"),
        (math.nan, "unknown"),
        (-3, "unknown"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert numerals.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.6072, "1.607"),
        (14.04, "14.04"),
        (50_304.2, "50,304"),
        (0.0312, "0.03120"),
        (6e-4, "6e-4"),
        (3e9, "3e9"),
        (0.0, "0.0000"),
        (math.inf, "inf"),
    ],
)
def test_significant(value: float, text: str) -> None:
    assert numerals.significant(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (500, "500"), (1200, "1.2k"), (2e4, "20k"), (3.28e9, "3.28B")]
)
def test_short(value: float, text: str) -> None:
    assert numerals.short(value) == text


@pytest.mark.parametrize(
    ("value", "spacing", "text"),
    [
        (0.0005, 0.0005, "0.0005"),
        (0.001, 0.0005, "0.0010"),
        (2.5, 0.5, "2.5"),
        (2.0, 1.0, "2"),
        (4e-6, 2e-6, "4e-6"),
        (13_500, 500, "13.5k"),
        (0, 1, "0"),
    ],
)
def test_ticks_of_an_axis_have_equal_digits(value: float, spacing: float, text: str) -> None:
    assert numerals.tick(value, spacing) == text


@pytest.mark.parametrize(
    ("fraction", "text"),
    [(0, "0%"), (0.5, "50%"), (0.032, "3.2%"), (0.00004, "0.004%"), (math.nan, "unknown")],
)
def test_percent(fraction: float, text: str) -> None:
    assert numerals.percent(fraction) == text
