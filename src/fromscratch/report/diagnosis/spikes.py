"""Where a curve leaves its level upwards and takes several values to come back."""

from __future__ import annotations

import numpy as np

from fromscratch.report.diagnosis.jumps import noise_of, without_outliers
from fromscratch.report.record import FloatArray

# A spike stands this many deviations, and this share, above the level before it, and half of the
# values after it still do by half of that: one batch of odd text does not.
_DEVIATIONS = 6.0
_SHARE = 0.05
_AFTER = 6
_BEFORE = 20


def find_spikes(y: FloatArray) -> list[int]:
    """The first value of each spike.

    Args:
        y: Finite values, shape (n,).
    """
    if len(y) < 3 * _BEFORE:
        return []
    noise = noise_of(without_outliers(y))
    windows = np.lib.stride_tricks.sliding_window_view(y, _BEFORE)
    usual = np.median(windows, axis=1)[:-1]  # of the values before value _BEFORE, and so on
    limit = np.maximum(_DEVIATIONS * noise, _SHARE * np.abs(usual))
    found: list[int] = []
    for at in np.flatnonzero(y[_BEFORE:] - usual > limit):
        i = int(at) + _BEFORE
        after = y[i + 1 : i + 1 + _AFTER] - usual[at]
        stays = len(after) == _AFTER and float(np.median(after)) > limit[at] / 2
        if stays and (not found or i - found[-1] > _BEFORE):
            found.append(i)
    return found
