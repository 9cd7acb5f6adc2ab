"""The loss around a model's weights, over a plane through them (Li et al. 2018).

In: a model, held-out windows, a seed. Out: losses of the model moved along two random directions.
A direction is normal noise, of which each filter (row of a matrix) is rescaled to the norm of the
same row of the weights; biases and norms' weights do not move ("Visualizing the Loss Landscape of
Neural Nets", section 4, https://arxiv.org/abs/1712.09913). Without that, how flat a plane looks
would depend on the scale of the weights, which normalisation layers make meaningless.

What always holds: afterwards every weight is what it was, to the last bit; the loss in the middle
is the model's own; the directions depend on the seed and the weights alone, not on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from fromscratch.data.batches import ValidationSet
from fromscratch.evaluate.landscape_points import PointsFile
from fromscratch.evaluate.loss import LossTotals, evaluate_loss, sum_totals
from fromscratch.foundation.errors import Interrupted
from fromscratch.foundation.seeds import derive_seed
from fromscratch.model.gpt import GPT

Direction = dict[str, Tensor]
"""By parameter that moves, how it moves at a coordinate of 1; its shape."""


def direction(model: GPT, *, seed: int, axis: int) -> Direction:
    """A random direction whose rows have the norms of the weights' rows.

    Args:
        model: Whose weights it belongs to.
        seed: Of the landscape.
        axis: 0 or 1.

    Returns:
        For each matrix (rows, columns) a tensor like it; vectors are left out. Where a row of the
        weights is zero, so is the direction's.
    """
    found: Direction = {}
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2:
            continue
        draw = torch.Generator().manual_seed(derive_seed(seed, f"landscape {axis} {name}"))
        weights = parameter.detach().to("cpu", torch.float64)
        noise = torch.randn(weights.shape, generator=draw, dtype=torch.float64)
        rows = noise.flatten(1).norm(dim=1).clamp_min(1e-30)
        scale = weights.flatten(1).norm(dim=1) / rows  # (rows,)
        moved = noise * scale.view(-1, *[1] * (weights.dim() - 1))
        found[name] = moved.to(parameter.device, parameter.dtype)
    return found


class Surroundings:
    """A model and the plane around its weights. Takes three copies of the weights' memory.

    Args:
        model: In float32; moved in place and put back.
        seed: Of the directions.
    """

    def __init__(self, model: GPT, *, seed: int) -> None:
        self.model = model
        self._axes = [direction(model, seed=seed, axis=axis) for axis in (0, 1)]
        moving = dict(model.named_parameters())
        self._own = {name: moving[name].detach().clone() for name in self._axes[0]}

    @contextmanager
    def at(self, x: float, y: float) -> Iterator[GPT]:
        """The model, moved by x along the first direction and y along the second, until left."""
        parameters = dict(self.model.named_parameters())
        try:
            with torch.no_grad():
                for name, own in self._own.items():
                    moved = parameters[name]
                    torch.add(own, self._axes[0][name], alpha=x, out=moved.data)
                    moved.data.add_(self._axes[1][name], alpha=y)
            yield self.model
        finally:
            with torch.no_grad():
                for name, own in self._own.items():
                    parameters[name].copy_(own)


def compute_points(
    model: GPT,
    sets: Sequence[ValidationSet],
    file: PointsFile,
    *,
    batch_size: int,
    should_stop: Callable[[], bool] = lambda: False,
    on_point: Callable[[int], None] = lambda done: None,
) -> None:
    """Computes the points that the file lacks, one after the other.

    Args:
        model: Around whose weights.
        sets: Held-out windows; every target of them counts once.
        file: Where the points go.
        batch_size: Windows at a time.
        should_stop: Asked between batches.
        on_point: Told how many points are there.

    Raises:
        Interrupted: `should_stop` said so; what was computed is in the file.
    """
    around = Surroundings(model, seed=file.settings.seed)
    for number, (x, y) in enumerate(file.settings.grid()):
        if number < file.done:
            continue
        if should_stop():
            raise Interrupted
        with around.at(x, y):
            loss = mean_loss(model, sets, batch_size=batch_size, should_stop=should_stop).loss
        file.append((x, y), loss)
        on_point(file.done)


def mean_loss(
    model: GPT,
    sets: Sequence[ValidationSet],
    *,
    batch_size: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> LossTotals:
    """The loss over several sets together."""
    return sum_totals(
        evaluate_loss(model, data, batch_size=batch_size, should_stop=should_stop) for data in sets
    )
