"""Seeds: every random choice is a pure function of the run's seed and of what it is for.

There is no generator whose state would have to travel through a checkpoint. Whoever needs
randomness derives a seed from the run's seed, the purpose and the position ("dropout", step 1200,
rank 0), so that a resumed run, a run that validated more often, and a run on another number of
ranks all draw the same numbers at the same place.
"""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose.

    Args:
        seed: The run's or the data's seed.
        *purpose: What the randomness is for, outermost first, e.g. `"dropout", step, rank`.

    Returns:
        A non-negative integer below 2**63: the first 8 bytes of sha256 over the parts, so that
        related purposes give unrelated seeds.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in (seed, *purpose))
    # A file name that is not UTF-8 reaches us with lone surrogates.
    return (
        int.from_bytes(hashlib.sha256(text.encode(errors="surrogateescape")).digest()[:8], "big")
        >> 1
    )
