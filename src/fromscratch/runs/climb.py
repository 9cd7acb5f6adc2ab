"""Which micro-batches are tried, and which of them is the one: nothing is run here.

In: candidates, and a function that tries one. Out: the trials that were made, and the best.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fromscratch.runs.trials import Trial


def climb(
    candidates: Sequence[int],
    attempt: Callable[[int], Trial],
    enough: Callable[[list[Trial]], bool],
) -> list[Trial]:
    """Tries ever larger micro-batches until one does not fit, then what lies just below.

    Args:
        candidates: Ascending. Some are passed over where they lie close together.
        attempt: Tries one.
        enough: Told all trials so far; whether larger ones need not be tried.

    Returns:
        The trials, in the order in which they were made.
    """
    made: list[Trial] = []
    for n in _spread(candidates):
        made.append(attempt(n))
        if made[-1].problem is not None:
            break
        if enough(made):
            return made
    if not made or not made[-1].out_of_memory:
        return made
    fits = max((t.micro_batch for t in made if t.problem is None), default=0)
    fails = made[-1].micro_batch
    while between := [n for n in candidates if fits < n < fails]:
        middle = between[len(between) // 2]
        made.append(attempt(middle))
        if made[-1].problem is None:
            fits = middle
        else:
            fails = middle
    return made


def _spread(candidates: Sequence[int]) -> list[int]:
    """The first and the last, and between them none less than half again as large as another."""
    kept: list[int] = []
    for n in candidates:
        if not kept or n >= 1.5 * kept[-1]:
            kept.append(n)
    if candidates and kept[-1] != candidates[-1]:
        kept.append(candidates[-1])
    return kept


def best_of(trials: Sequence[Trial], *, largest: bool) -> Trial | None:
    """The fastest; among those within 2% of it the largest, or the smallest. None without any."""
    fitting = [t for t in trials if t.problem is None]
    if not fitting:
        return None
    top = max(t.tokens_per_s for t in fitting)
    close = [t for t in fitting if t.tokens_per_s >= 0.98 * top]
    pick = max if largest else min
    return pick(close, key=lambda t: t.micro_batch)


_GAIN = 1.02
_LONG_TRIAL_SECONDS = 60.0


def fast_enough(trials: list[Trial]) -> bool:
    """Whether two micro-batches in a row were not faster, or the next would take a minute.

    On a CPU larger ones do not fill the device better from some point on, and take their time.
    """
    if trials[-1].tokens_per_s == 0.0:
        return False
    speeds = [t.tokens_per_s for t in trials]
    stalled = len(speeds) > 2 and max(speeds[-2:]) < _GAIN * max(speeds[:-2])
    step = trials[-1].step_seconds
    return stalled or 4 * step > _LONG_TRIAL_SECONDS
