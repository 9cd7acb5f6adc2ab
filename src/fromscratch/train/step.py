"""One update, as its description reads.

Take the step's micro-batches; count their targets; for each, backward of its loss sum over the
count of all (in fp16: scaled, and the gradients unscaled at the end); clip; refuse the update when
loss or gradient is not finite; put the scheduled learning rate for this step in force; step; drop
the gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from fromscratch.data.batches import Batch
from fromscratch.model.gpt import GPT
from fromscratch.optim.build import Optimizers
from fromscratch.train.loss_scale import LossScaler
from fromscratch.train.objectives import Objective


@dataclass(frozen=True)
class StepOutcome:
    """What an update did.

    Attributes:
        loss: Mean over all targets of the step, nats per token.
        n_targets: How many there were.
        grad_norm: Global norm of the true gradients: unscaled, before clipping.
        clipped: Whether the norm was above the threshold.
        applied: False when a non-finite loss or norm kept the update from being made.
        overflowed: Not applied because a gradient was too large for fp16 under the loss scale,
            which has been lowered: in fp16 that happens in a healthy run now and then.
    """

    loss: float
    n_targets: int
    grad_norm: float
    clipped: bool
    applied: bool
    overflowed: bool = False


def train_step(
    model: GPT,
    objective: Objective,
    optimizers: Optimizers,
    batches: Sequence[Batch],
    *,
    fraction: float,
    clip: float,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    scaler: LossScaler | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> StepOutcome | None:
    """Makes one update from the step's micro-batches.

    Args:
        model: In training mode.
        objective: Loss sum of a batch.
        optimizers: Whose learning rates are set to `fraction` of their peaks.
        batches: The micro-batches, on any device.
        fraction: The schedule's value for this step.
        clip: Largest global gradient norm; 0 for none.
        autocast: Context of the forward pass.
        scaler: fp16's loss scaler; set for the step after this one.
        should_stop: Asked between micro-batches.

    Returns:
        What happened, or None when `should_stop` said so: nothing was changed then.
    """
    n_targets = sum(batch.n_targets for batch in batches)
    assert n_targets > 0, "a step without targets has no loss"
    loss_sum = 0.0
    for batch in batches:
        if should_stop():
            optimizers.zero_grad()
            return None
        with autocast():
            loss = objective(model, batch.to(model.device))
        share = loss / n_targets
        (share if scaler is None else share * scaler.scale).backward()
        loss_sum += loss.item()

    if scaler is not None:
        scaler.unscale(model.parameters())
    grad_norm = clip_gradients(model, clip)
    mean_loss = loss_sum / n_targets
    applied = math.isfinite(mean_loss) and math.isfinite(grad_norm)
    if applied:
        optimizers.set_fraction(fraction)
        optimizers.step()
    optimizers.zero_grad()
    overflowed = scaler is not None and scaler.see(loss=mean_loss, grad_norm=grad_norm)
    return StepOutcome(
        loss=mean_loss,
        n_targets=n_targets,
        grad_norm=grad_norm,
        clipped=bool(clip) and grad_norm > clip,
        applied=applied,
        overflowed=overflowed,
    )


def clip_gradients(model: GPT, clip: float) -> float:
    """Scales all gradients so that their global norm is at most `clip`; returns the norm before."""
    parameters = [p for p in model.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    value = float(norm)
    if clip and value > clip and math.isfinite(value):
        torch.nn.utils.clip_grads_with_norm_(parameters, clip, norm)
    return value
