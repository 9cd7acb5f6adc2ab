"""Muon: momentum, orthogonalised (Jordan et al. 2024, kellerjordan.github.io/posts/muon).

For a hidden matrix the update is the nearest semi-orthogonal matrix to its Nesterov momentum, found
by an iteration of polynomials. Matrices of the same shape are iterated together as one batch, where
most of the time goes on a CPU; fused matrices (q, k, v; gate, up) are orthogonalised part by
part. A matrix whose rows lie on several ranks is gathered, since its update needs all of it; every
rank orthogonalises it and keeps its own rows. Where bfloat16 is slow the iteration runs in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from fromscratch.foundation.sharded import gathered, is_sharded, local, part_like

Polynomial = tuple[float, float, float]
"""(a, b, c) of an odd quintic a x + b x^3 + c x^5 of the singular values."""

# Jordan et al. (2024): steep at zero, so that five steps bring every singular value above about
# 1/3000 of the largest into roughly [0.7, 1.2].
_QUINTIC: Polynomial = (3.4445, -4.7750, 2.0315)

# Amsel et al. (2025, arXiv:2505.16932): each the best after the ones before it, for singular values
# from 1/1000 on, with a margin of 2% for rounding; the figures are those that nanochat computed.
_POLAR_EXPRESS: tuple[Polynomial, ...] = (
    (8.156554524902461, -22.48329292557795, 15.878769915207462),
    (4.042929935166739, -2.808917465908714, 0.5000178451051316),
    (3.8916678022926607, -2.772484153217685, 0.5060648178503393),
    (3.285753657755655, -2.3681294933425376, 0.46449024233003106),
    (2.3465413258596377, -1.7097828382687081, 0.42323551169305323),
)
_MARGIN = 1.02

# Elements of sharded matrices that are gathered together: half a gigabyte with what comes of them.
_WHOLE_AT_ONCE = 32 * 2**20

Pairs = list[tuple[torch.nn.Parameter, Tensor]]
"""Parameters, each with this rank's rows of what its update is made from."""


def polynomials(method: str, steps: int) -> tuple[Polynomial, ...]:
    """The polynomials that `optim.muon_method` applies in its first `muon_steps` steps."""
    if method == "polar_express":
        assert steps <= len(_POLAR_EXPRESS), "the recipe refuses more"
        return _POLAR_EXPRESS[:steps]
    return (_QUINTIC,) * steps


def orthogonalise(
    matrices: Tensor, *, by: Sequence[Polynomial] = (_QUINTIC,) * 5, dtype: torch.dtype
) -> Tensor:
    """Approximately U V^T of each matrix's singular value decomposition U S V^T.

    Args:
        matrices: (N, rows, columns).
        by: The polynomials that S goes through, one after the other, from at most 1.
        dtype: Of the iteration's products.

    Returns:
        (N, rows, columns) in `dtype`.
    """
    x = matrices.to(dtype)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    margin = 1.0 if by[0] == _QUINTIC else _MARGIN
    x = x / (x.norm(dim=(-2, -1), keepdim=True) * margin + 1e-7)
    for a, b, c in by:
        gram = x @ x.mT  # (N, short, short)
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x.mT if tall else x


def iteration_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 on GPUs that have it in hardware; float32 elsewhere.

    On a CPU without bfloat16 instructions the same iteration is about 50 times slower in it.
    """
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float32


class Muon(torch.optim.Optimizer):
    """Muon for matrices; weight decay is decoupled (Loshchilov and Hutter 2019).

    An update has the size lr * sqrt(max(1, rows / columns)), as in the reference implementation.

    Args:
        params: Two-dimensional parameters, or groups of them.
        lr: Learning rate.
        momentum: Of the running mean of gradients.
        weight_decay: Decay per unit of learning rate.
        by: The polynomials of the iteration.
        blocks: For a fused parameter, the rows of each part.
    """

    def __init__(
        self,
        params: Any,
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        by: Sequence[Polynomial] = (_QUINTIC,) * 5,
        blocks: dict[torch.nn.Parameter, tuple[int, ...]] | None = None,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self._by = by
        self._blocks = blocks or {}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Updates every parameter that has a gradient."""
        assert closure is None, "Muon takes no closure"
        for group in self.param_groups:
            self._step_group(group)

    def _step_group(self, group: dict[str, Any]) -> None:
        lr, momentum = group["lr"], group["momentum"]
        parameters = [p for p in group["params"] if p.grad is not None]
        if not parameters:
            return
        # Of a sharded matrix, this rank's rows: what is done to each element needs no others.
        rows_here = [local(p) for p in parameters]
        gradients = [local(p.grad) for p in parameters]
        for p in parameters:
            if "momentum" not in self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        means = [local(self.state[p]["momentum"]) for p in parameters]
        torch._foreach_lerp_(means, gradients, 1.0 - momentum)
        nesterov = torch._foreach_lerp(gradients, means, momentum)
        if group["weight_decay"]:
            torch._foreach_mul_(rows_here, 1.0 - lr * group["weight_decay"])

        for portion in _portions(list(zip(parameters, nesterov, strict=True))):
            self._change(portion, lr)

    def _change(self, pairs: Pairs, lr: float) -> None:
        """Orthogonalises some parameters' means and adds them, matrices of one shape together."""
        by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
        changes: list[tuple[Tensor, Tensor]] = []
        for parameter, mine in pairs:
            update: Tensor = mine
            changed: Tensor = parameter
            if is_sharded(parameter):
                update = gathered(mine, parameter)
                changed = torch.zeros_like(update)
                changes.append((parameter, changed))
            rows = self._blocks.get(parameter, (parameter.shape[0],))
            for target, part in zip(changed.split(rows), update.split(rows), strict=True):
                by_shape.setdefault(part.shape, []).append((target, part))
        dtype = iteration_dtype(pairs[0][0].device)
        for shape, parts in by_shape.items():
            stacked = torch.stack([part for _, part in parts])
            updates = orthogonalise(stacked, by=self._by, dtype=dtype)
            scale = max(1.0, shape[0] / shape[1]) ** 0.5
            targets = [target for target, _ in parts]
            torch._foreach_add_(targets, list(updates.to(targets[0].dtype)), alpha=-lr * scale)
        for sharded, change in changes:
            local(sharded).add_(local(part_like(change, sharded)))


def _portions(pairs: Pairs) -> Iterator[Pairs]:
    """All at once; of sharded parameters, as many as may be whole on a rank at the same time."""
    if not any(is_sharded(parameter) for parameter, _ in pairs):
        yield pairs
        return
    portion: Pairs = []
    for pair in pairs:
        portion.append(pair)
        if sum(parameter.numel() for parameter, _ in portion) >= _WHOLE_AT_ONCE:
            yield portion
            portion = []
    if portion:
        yield portion
