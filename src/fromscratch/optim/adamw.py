"""torch's AdamW, started without its compiler.

torch wraps some methods of its optimisers so that `torch.compile` leaves them alone or may trace
them, and the first call of one imports the whole compiler: a second at every start. Nothing here
compiles an optimiser, so what is wrapped may be called directly. Under a torch that does it
otherwise a start only takes longer.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch


class AdamW(torch.optim.AdamW):
    """Loshchilov and Hutter (2019), as `torch.optim.AdamW`: the same state, the same numbers."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Updates every parameter that has a gradient."""
        assert closure is None, "a step has its gradients"
        # Below torch's own switching of gradients (no_grad does the same) and its profiler's label.
        undecorated: Callable[..., Any] = inspect.unwrap(torch.optim.AdamW.step)
        undecorated(self)


def keep_the_compiler_out() -> None:
    """Lets the methods that torch hides from its compiler be called without importing it."""
    for method in (torch.optim.Optimizer.add_param_group, torch.optim.Optimizer.zero_grad):
        hidden = getattr(method, "__wrapped__", None)
        if hidden is not None and not hasattr(hidden, "__dynamo_disable"):
            setattr(hidden, "__dynamo_disable", hidden)
