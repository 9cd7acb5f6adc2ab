"""The loss of a run as a function of its size and its text: Chinchilla's parametric law.

L(N, D) = E + A / N^alpha + B / D^beta (Hoffmann et al. 2022, arXiv:2203.15556, approach 3): E is
what no model of this kind can save, the second term what a finite model costs, the third what
finite text costs. N counts all parameters, embeddings and head included, as `plan` prints them and
as that paper counts: without the embeddings, small models bend the law (Pearce and Song 2024,
arXiv:2406.12907). D counts trained tokens, L is in nats per token.

In: numbers. Out: numbers. Nothing is fitted here (law_fit.py) and nothing is imported for it, so
that a report can draw a law. Always true: a larger model or more text never predicts a higher loss.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

LEVEL = 0.9
"""Of the intervals: a run is expected to end within nine times of ten."""

FEWEST_RUNS = 8
"""Of which a law is fitted: five numbers are, and what is over tells how well."""


@dataclass(frozen=True)
class ScalingLaw:
    """The five numbers of the law, by the paper's letters."""

    e: float
    a: float
    b: float
    alpha: float
    beta: float

    def loss(self, parameters: float, tokens: float) -> float:
        """Nats per token of a model of so many parameters after so many tokens."""
        size = self.a * math.pow(parameters, -self.alpha)
        return self.e + size + self.b * math.pow(tokens, -self.beta)

    def optimum(self, flops: float) -> tuple[float, float]:
        """Parameters and tokens of the lowest loss for so much arithmetic, where it is 6 N D.

        Hoffmann et al. (2022), equation 4. The answers of `scale` do not come from here: they count
        the arithmetic of each shape as it is, and devices are not equally fast at each.
        """
        ratio = (self.alpha * self.a) / (self.beta * self.b)
        scale = ratio ** (1 / (self.alpha + self.beta))
        parameters = scale * (flops / 6) ** (self.beta / (self.alpha + self.beta))
        return parameters, flops / 6 / parameters


@dataclass(frozen=True)
class Prediction:
    """What a run is expected to end with, in nats per token; a run ends within `LEVEL` of times."""

    loss: float
    low: float
    high: float

    @property
    def spread(self) -> float:
        """Half the interval, as a share of the loss."""
        return (self.high - self.low) / (2 * self.loss)


@dataclass(frozen=True)
class FittedRun:
    """One run of the ladder.

    Attributes:
        parameters: All of its model.
        tokens: Trained on.
        loss: Nats per token of the held-out text at its end.
        flops: Of its training.
        run: Its folder's name.
    """

    parameters: int
    tokens: int
    loss: float
    flops: float
    run: str


@dataclass(frozen=True)
class LawFit:
    """A law, how sure it is, and what it was fitted to.

    Attributes:
        law: The best fit.
        draws: Laws that could as well have been found: the bootstrap's.
        noise: Standard deviation of what the law leaves over of a run, in the loss's logarithm.
        runs: What it was fitted to.
    """

    law: ScalingLaw
    draws: tuple[ScalingLaw, ...]
    noise: float
    runs: tuple[FittedRun, ...]

    def predict(self, parameters: float, tokens: float) -> Prediction:
        """What a run will end with, and the interval for one run.

        The interval has both parts: that the law is not known exactly (the spread of the draws) and
        that no run lies on it exactly (the noise, by Student's t, as it was estimated from few).
        """
        best = self.law.loss(parameters, tokens)
        drawn = [math.log(law.loss(parameters, tokens) / best) for law in self.draws]
        own = _student(len(self.runs) - 5) * self.noise
        low = min(0.0, _quantile(drawn, (1 - LEVEL) / 2))
        high = max(0.0, _quantile(drawn, (1 + LEVEL) / 2))
        return Prediction(
            loss=best,
            low=best * math.exp(-math.hypot(low, own)),
            high=best * math.exp(math.hypot(high, own)),
        )

    def interval(self, name: str) -> tuple[float, float]:
        """The bootstrap's interval of one of the law's numbers, or of E, A, B by their letters."""
        values = [float(getattr(law, name)) for law in self.draws]
        return _quantile(values, (1 - LEVEL) / 2), _quantile(values, (1 + LEVEL) / 2)

    def to_json(self) -> dict[str, Any]:
        """As it is kept."""
        return asdict(self)


def fit_from_json(content: dict[str, Any]) -> LawFit:
    """The inverse of `LawFit.to_json`.

    Raises:
        KeyError, TypeError, ValueError: It is none.
    """
    return LawFit(
        law=ScalingLaw(**content["law"]),
        draws=tuple(ScalingLaw(**draw) for draw in content["draws"]),
        noise=float(content["noise"]),
        runs=tuple(FittedRun(**run) for run in content["runs"]),
    )


def _quantile(values: list[float], share: float) -> float:
    """By linear interpolation, as numpy's default."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def _student(freedom: int) -> float:
    """The 95% quantile of Student's t, for an interval of 90%.

    By the expansion of Cornish and Fisher (Abramowitz and Stegun 26.7.5), whose error is below 1%
    from three degrees of freedom on; `FEWEST_RUNS` leaves three.
    """
    x, n = 1.6448536269514722, max(freedom, 1)
    first = (x**3 + x) / 4
    second = (5 * x**5 + 16 * x**3 + 3 * x) / 96
    third = (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384
    return x + first / n + second / n**2 + third / n**3
