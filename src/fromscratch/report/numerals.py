"""Numbers as people read them."""

from __future__ import annotations

import math


def count(value: float) -> str:
    """A whole number with separators: 124,439,808."""
    return f"{round(value):,}" if math.isfinite(value) else str(value)


def short(value: float) -> str:
    """At most four characters of a count, for axes: 950, 20k, 1.5M."""
    for limit, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.4g}{suffix}"
    return f"{value:.4g}"


def significant(value: float, digits: int = 4) -> str:
    """`value` to some significant digits, without an exponent where that stays readable."""
    if not math.isfinite(value):
        return str(value)
    if value != 0 and not 1e-3 <= abs(value) < 1e6:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        return f"{mantissa}e{int(exponent)}"
    decimals = digits if value == 0 else max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"


def tick(value: float, spacing: float) -> str:
    """An axis label with as many digits as it takes to tell it from its neighbours."""
    if value == 0:
        return "0"
    if abs(value) >= 10_000:
        return short(value)
    if spacing < 9e-6:
        # At this size the digits before the exponent carry the spacing.
        digits = max(0, math.floor(math.log10(abs(value))) - math.floor(math.log10(spacing)))
        mantissa, exponent = f"{value:.{digits}e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    decimals = max(0, -math.floor(math.log10(spacing) + 1e-9))
    return f"{value:,.{decimals}f}"


def duration(seconds: float) -> str:
    """Seconds as `48 s`, `2 min 05 s`, `3 h 12 min` or `2 d 4 h`."""
    if not math.isfinite(seconds) or seconds < 0:
        return "unknown"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def percent(fraction: float) -> str:
    """A fraction as a percentage; a small one keeps a digit that is not zero."""
    if not math.isfinite(fraction):
        return "unknown"
    if fraction == 0 or abs(fraction) >= 0.1:
        return f"{fraction:.0%}"
    return f"{fraction:.1%}" if abs(fraction) >= 0.001 else f"{significant(fraction * 100, 1)}%"
