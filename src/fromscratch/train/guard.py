"""Which updates must not be made, because they would poison the weights."""

from __future__ import annotations

import math
from statistics import median

from fromscratch.train.guard_config import GuardConfig
from fromscratch.train.recent import Recent, robust_z

# Lower bounds of what counts as one standard deviation: a hundredth of a loss, a seventh of a norm.
# At spike_z = 8 a norm has to be more than three times the median: at the end of a decay, real runs
# (of `try`, say) vary so little that half as much again is 9 deviations, and nothing is wrong.
_LEAST_SPREAD = 0.01
_LEAST_LOG_SPREAD = 0.15
_SMALLEST = 1e-30


class UpdateGuard:
    """Says which updates must not be made, and when so many were refused that it cannot go on.

    Args:
        config: The recipe's thresholds.
        recent: The last updates; shared with who else looks at them.
        in_a_row: Refusals since the last update that was made.
    """

    def __init__(self, config: GuardConfig, recent: Recent, *, in_a_row: int = 0) -> None:
        self.config = config
        self.recent = recent
        self.in_a_row = in_a_row

    def objection(self, step: int, loss: float, grad_norm: float) -> str | None:
        """Why this update must not be made; None where nothing speaks against it."""
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            return f"loss {loss}, gradient norm {grad_norm}"
        config = self.config
        losses = self.recent.losses[-config.spike_window :]
        if (
            not config.spike_z
            or step < config.spike_from_step
            or len(losses) < config.spike_window // 2
        ):
            return None
        typical = median(losses)
        z = robust_z(loss, losses, least_scale=_LEAST_SPREAD * abs(typical))
        if z > config.spike_z:
            return self._spike("loss", loss, typical, z)
        norms = self.recent.grad_norms[-config.spike_window :]
        # Norms vary by factors, so they are compared by their logarithms.
        logs = [math.log(max(norm, _SMALLEST)) for norm in norms]
        z = robust_z(math.log(max(grad_norm, _SMALLEST)), logs, least_scale=_LEAST_LOG_SPREAD)
        if z > config.spike_z:
            return self._spike("gradient norm", grad_norm, median(norms), z)
        return None

    def _spike(self, what: str, value: float, typical: float, z: float) -> str:
        return (
            f"a spike: {what} {value:.4g}, {z:.1f} robust standard deviations above the median of "
            f"{typical:.4g} (guard.spike_z = {self.config.spike_z:g})"
        )

    def see(self, loss: float, grad_norm: float, *, applied: bool, clipped: bool = False) -> None:
        """Takes note of one step."""
        self.in_a_row = 0 if applied else self.in_a_row + 1
        if applied:
            self.recent.add(loss, grad_norm, clipped=clipped)

    @property
    def at_its_end(self) -> bool:
        """Whether so many were refused in a row that something must happen."""
        return self.in_a_row >= self.config.patience
