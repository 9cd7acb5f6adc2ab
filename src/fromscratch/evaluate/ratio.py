"""The standard error of a ratio of sums over documents: of nats per token, of bits per byte.

Documents are what was drawn; the tokens inside one are not independent of each other. So a
document is a cluster with a total y in the numerator and a size x in the denominator, both random,
and R = sum(y) / sum(x) is a ratio estimator. Its variance by the delta method (Cochran 1977,
"Sampling Techniques", section 6.4; Miller 2024, "Adding Error Bars to Evals", for clusters) is
n / (n - 1) * sum((y - R x)^2) / sum(x)^2. Only sums are kept, so memory does not grow with the
documents, and the sums of several sources add up to those of all of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass
class RatioSums:
    """Sums over documents, from which a ratio and its standard error come.

    Attributes:
        n: Documents.
        y: Sum of the numerators.
        x: Sum of the denominators.
    """

    n: int = 0
    y: float = 0.0
    x: float = 0.0
    _yy: float = 0.0
    _yx: float = 0.0
    _xx: float = 0.0

    def add(self, y: float, x: float) -> None:
        """Counts a document."""
        self.n += 1
        self.y += y
        self.x += x
        self._yy += y * y
        self._yx += y * x
        self._xx += x * x

    def __add__(self, other: RatioSums) -> RatioSums:
        """The sums over the documents of both."""
        return RatioSums(
            self.n + other.n,
            self.y + other.y,
            self.x + other.x,
            self._yy + other._yy,
            self._yx + other._yx,
            self._xx + other._xx,
        )

    @property
    def ratio(self) -> float:
        """R; NaN of nothing."""
        return self.y / self.x if self.x else math.nan

    @property
    def stderr(self) -> float | None:
        """The standard error of R; None for fewer than two documents, of which none can be said."""
        if self.n < 2 or not self.x:
            return None
        r = self.ratio
        squares = self._yy - 2 * r * self._yx + r * r * self._xx
        if math.isnan(squares):
            return math.nan
        return math.sqrt(max(0.0, squares) * self.n / (self.n - 1)) / self.x
