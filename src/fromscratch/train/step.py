"""One update, as its description reads.

Take the step's micro-batches; count over all ranks what the loss is the mean over (targets; of
preferences, pairs); for each, backward of its loss sum over the count of all (in fp16: scaled, and
the gradients unscaled at the end), exchanging gradients only on the last; clip; refuse the update
when loss or gradient is not finite; put what is scheduled for this step in force; step; drop the
gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch

from fromscratch.data.batches import Batch
from fromscratch.foundation.schedules import StepSettings
from fromscratch.foundation.sharded import whole
from fromscratch.model.gpt import GPT
from fromscratch.optim.build import Optimizers
from fromscratch.parallel.ranks import Ranks
from fromscratch.train.loss_scale import LossScaler
from fromscratch.train.objectives import Objective


@dataclass(frozen=True)
class StepOutcome:
    """What an update did.

    Attributes:
        loss: Mean over all targets of the step, nats per token; of preferences, over its pairs.
        n_targets: How many targets there were.
        grad_norm: Global norm of the true gradients: unscaled, before clipping.
        clipped: Whether the norm was above the threshold.
        applied: False when the update was refused: a non-finite loss or norm, or `accept`.
        overflowed: Not applied because a gradient was too large for fp16 under the loss scale,
            which has been lowered: in fp16 that happens in a healthy run now and then.
        measures: What else the objective saw, by name: means over what the loss is the mean over.
    """

    loss: float
    n_targets: int
    grad_norm: float
    clipped: bool
    applied: bool
    overflowed: bool = False
    measures: dict[str, float] = field(default_factory=dict)


def train_step(
    model: GPT,
    objective: Objective,
    optimizers: Optimizers,
    batches: Sequence[Batch],
    *,
    settings: StepSettings,
    autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
    scaler: LossScaler | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    accept: Callable[[float, float], bool] = lambda loss, grad_norm: True,
    around_update: Callable[[], AbstractContextManager[object]] = nullcontext,
    ranks: Ranks | None = None,
    syncing: Callable[[bool], AbstractContextManager[object]] = lambda last: nullcontext(),
    take: Callable[[], Mapping[str, float]] = dict,
) -> StepOutcome | None:
    """Makes one update from the step's micro-batches.

    Args:
        model: In training mode.
        objective: Loss sum of a batch.
        optimizers: What makes the update.
        batches: This rank's micro-batches, on any device.
        settings: What is in force during this step.
        autocast: Context of the forward pass.
        scaler: fp16's loss scaler; set for the step after this one.
        should_stop: Asked between micro-batches; the same answer on every rank.
        accept: Asked with loss and gradient norm whether the update may be made; what is not
            finite is refused whatever it says. The same answer on every rank.
        around_update: Entered with the clipped gradients at hand, left when the weights have moved.
        ranks: Who trains on the rest of the step; alone when left out.
        syncing: Context of a micro-batch, given whether it is the last: then gradients are averaged
            over the ranks.
        take: What else the objective saw on this rank since this was last asked, summed.

    Returns:
        What happened, or None when `should_stop` said so: nothing was changed then.
    """
    ranks = Ranks() if ranks is None else ranks
    n_targets, n_terms = map(
        int, ranks.sum(sum(b.n_targets for b in batches), sum(b.n_terms for b in batches))
    )
    assert n_targets > 0, "a step without targets has no loss"
    loss_sum = 0.0
    take()  # of a step that was given up, or of a look at some batch
    for number, batch in enumerate(batches, start=1):
        if should_stop():
            optimizers.zero_grad()
            return None
        with syncing(number == len(batches)):
            with autocast():
                loss = objective(model, batch.to(model.device))
            # Gradients are averaged over the ranks, and are to be summed. In fp16 their number is
            # multiplied in afterwards: what overflows must not depend on it.
            if scaler is None:
                (loss * ranks.size / n_terms).backward()
            else:
                (loss / n_terms * scaler.scale).backward()
        loss_sum += loss.item()

    if scaler is not None:
        scaler.unscale(model.parameters(), times=ranks.size)
    grad_norm = clip_gradients(model, settings.clip)
    seen = take()
    mean_loss, *means = (total / n_terms for total in ranks.sum(loss_sum, *seen.values()))
    finite = math.isfinite(mean_loss) and math.isfinite(grad_norm)
    applied = accept(mean_loss, grad_norm) and finite
    if applied:
        optimizers.put_in_force(settings)
        with around_update():
            optimizers.step()
    optimizers.zero_grad()
    overflowed = scaler is not None and scaler.see(loss=mean_loss, grad_norm=grad_norm)
    return StepOutcome(
        loss=mean_loss,
        n_targets=n_targets,
        grad_norm=grad_norm,
        clipped=bool(settings.clip) and grad_norm > settings.clip,
        applied=applied,
        overflowed=overflowed,
        measures=dict(zip(seen, means, strict=True)),
    )


def clip_gradients(model: GPT, clip: float) -> float:
    """Scales all gradients so that their global norm is at most `clip`; returns the norm before."""
    parameters = [p for p in model.parameters() if p.grad is not None]
    norm = whole(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
    value = float(norm)
    if clip and value > clip and math.isfinite(value):
        torch.nn.utils.clip_grads_with_norm_(parameters, clip, norm)
    return value
