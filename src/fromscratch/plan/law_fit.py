"""Fits the scaling law to runs, and tells how sure it is.

In: runs with parameters, tokens and loss. Out: a `LawFit`. The fit is that of Hoffmann et al.
(2022, section 3.3): the Huber loss (delta 1e-3) of log L, L-BFGS on a logsumexp from many starts.
What Besiroglu et al. (2024, arXiv:2404.10102) found wrong in it is heeded: the residuals are summed
and not averaged, and the tolerance is far below what a sum can still gain, so that the optimiser
does not stop early; and the intervals are as wide as a few runs make them.

Always true: the same runs give the same fit. No torch; scipy is imported when it is called.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.seeds import derive_seed
from fromscratch.plan.scaling_law import FEWEST_RUNS, FittedRun, LawFit, ScalingLaw

Floats = npt.NDArray[np.float64]

DELTA = 1e-3
DRAWS = 200
_STARTS = 8
"""L-BFGS is started from so many of the grid's points, the best by the objective."""
_EXPONENTS = (0.1, 0.25, 0.4, 0.6, 0.9, 1.3)
_BOUNDS = [(math.log(1e-4), None), (None, None), (None, None), (0.0, 3.0), (0.0, 3.0)]
"""Of log E and of both terms at the middle of the runs, then of both exponents. Of runs that do not
bend yet, the best E is none at all, and its logarithm has no end."""


def fit_law(runs: Sequence[FittedRun], *, draws: int = DRAWS) -> LawFit:
    """Fits the law to runs that ended.

    The draws are a bootstrap over the runs' residuals, on the ladder's own sizes and token counts,
    which were chosen and not sampled; leaving whole runs out, as where runs are a sample, would
    leave ladders of a dozen runs without a size or a length now and then. With n runs and five
    numbers, residuals are widened by sqrt(n / (n - 5)), which a fit so flexible made too small, and
    in each draw by what so few say of their size (chi-squared).

    Args:
        runs: At least `FEWEST_RUNS`, of several sizes and several token counts.
        draws: Laws in the bootstrap.

    Raises:
        UserError: They cannot tell the law's numbers apart.
    """
    _check(runs)
    sizes = np.array([run.parameters for run in runs], dtype=float)
    tokens = np.array([run.tokens for run in runs], dtype=float)
    losses = np.array([run.loss for run in runs], dtype=float)
    problem = _Problem(sizes, tokens)
    best = problem.fit(np.log(losses), problem.starts(losses))
    fitted = problem.log_loss(best)
    freedom = len(runs) - 5
    left = (np.log(losses) - fitted) * math.sqrt(len(runs) / freedom)
    left -= left.mean()
    random = np.random.default_rng(derive_seed(0, "scaling law"))
    drawn = []
    for _ in range(draws):
        width = math.sqrt(freedom / random.chisquare(freedom))
        signs = random.choice((-1.0, 1.0), len(runs))
        again = fitted + width * signs * random.choice(left, len(runs))
        drawn.append(problem.law(problem.fit(again, best[None])))
    noise = float(np.sqrt(np.mean(left**2)))
    return LawFit(problem.law(best), tuple(drawn), noise, tuple(runs))


def _check(runs: Sequence[FittedRun]) -> None:
    sizes, lengths = {run.parameters for run in runs}, {run.tokens for run in runs}
    if len(runs) >= FEWEST_RUNS and len(sizes) >= 3 and len(lengths) >= 3:
        return
    raise UserError(
        f"{len(runs)} runs of {len(sizes)} sizes and {len(lengths)} lengths are too few for a law "
        f"of five numbers: it takes {FEWEST_RUNS} runs of three sizes and three lengths.",
        fix="Give the ladder a larger --budget, or a smaller recipe.",
    )


class _Problem:
    """The design of a ladder, and what is fitted on it.

    The five numbers are log E, the logarithms of both terms at the middle of the runs, and the
    exponents: moved to the middle, they pull far less on each other than A and B do.
    """

    def __init__(self, sizes: Floats, tokens: Floats) -> None:
        self._size, self._text = np.log(sizes), np.log(tokens)
        self._middle = float(self._size.mean()), float(self._text.mean())
        self._x = self._size - self._middle[0]
        self._y = self._text - self._middle[1]

    def law(self, p: Floats) -> ScalingLaw:
        """The law of five numbers."""
        e, u, v, alpha, beta = (float(value) for value in p)
        return ScalingLaw(
            e=math.exp(e),
            a=math.exp(u + alpha * self._middle[0]),
            b=math.exp(v + beta * self._middle[1]),
            alpha=alpha,
            beta=beta,
        )

    def log_loss(self, p: Floats) -> Floats:
        """Log L at each run."""
        return np.asarray(np.logaddexp.reduce(self._terms(p), axis=0))

    def _terms(self, p: Floats) -> Floats:
        e, u, v, alpha, beta = p
        return np.stack([np.full_like(self._x, e), u - alpha * self._x, v - beta * self._y])

    def objective(self, p: Floats, wanted: Floats) -> tuple[float, Floats]:
        """The sum of the Huber losses, in units of delta squared, and its gradient."""
        terms = self._terms(p)
        found = np.logaddexp.reduce(terms, axis=0)
        error = (found - wanted) / DELTA
        inside = np.abs(error) <= 1
        value = np.where(inside, error**2 / 2, np.abs(error) - 0.5).sum()
        slope = np.clip(error, -1, 1) / DELTA
        weights = np.exp(terms - found)  # d log L / d term
        e, u, v = (weights * slope).sum(axis=1)
        alpha = -(weights[1] * slope * self._x).sum()
        beta = -(weights[2] * slope * self._y).sum()
        return float(value), np.array([e, u, v, alpha, beta])

    def starts(self, losses: Floats) -> Floats:
        """A grid over what the law can be, (starts, 5), the best by the objective first."""
        lowest, middle = float(losses.min()), float(np.exp(np.log(losses).mean()))
        grid = []
        for floor, share, alpha, beta in itertools.product(
            (0.02, 0.3, 0.6, 0.8, 0.95), (0.2, 0.5, 0.8), _EXPONENTS, _EXPONENTS
        ):
            e = floor * lowest
            rest = middle - e
            grid.append([math.log(e), math.log(share * rest), math.log((1 - share) * rest)])
            grid[-1] += [alpha, beta]
        wanted = np.log(losses)
        points = np.array(grid)
        order = np.argsort([self.objective(point, wanted)[0] for point in points], kind="stable")
        return points[order[:_STARTS]]

    def fit(self, wanted: Floats, starts: Floats) -> Floats:
        """The five numbers of the least objective that any start leads to."""
        from scipy.optimize import minimize

        best: Floats | None = None
        least = math.inf
        for start in starts:
            found = minimize(
                self.objective,
                start,
                args=(wanted,),
                jac=True,
                method="L-BFGS-B",
                bounds=_BOUNDS,
                options={"maxiter": 2000, "maxfun": 4000, "ftol": 1e-13, "gtol": 1e-7},
            )
            if found.fun < least:
                best, least = np.asarray(found.x), float(found.fun)
        assert best is not None
        return best
