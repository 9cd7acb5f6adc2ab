"""All that watches over a run, in the order in which the loop needs it.

In: each step's loss, gradient and outcome. Out: which updates are made, events about those that are
not, warnings, measurements of the layers, and the way back when nothing else helps. What always
holds: all that it judges by is in the run's progress, so a resumed run judges as one that was never
interrupted; and the weights of a run without trouble are those of a run that nobody watched. On
several ranks all judge by the same numbers, and so alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch

from fromscratch.checkpoint.state import TrainState
from fromscratch.checkpoint.store import CheckpointStore
from fromscratch.data.batches import Batch, TrainingData
from fromscratch.data.skipping import kept_numbers
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.sharded import local
from fromscratch.parallel.ranks import Ranks
from fromscratch.parallel.share import SharedModel
from fromscratch.track.tracker import HealthResult
from fromscratch.train.guard import UpdateGuard
from fromscratch.train.guard_config import GuardConfig
from fromscratch.train.health import HealthProbe
from fromscratch.train.recent import Recent
from fromscratch.train.rollback import commit_rollback, roll_back
from fromscratch.train.step import StepOutcome
from fromscratch.train.watch import TREND, Watch

_WINDOWS_TOLD = 256
_TEXTS_TOLD = 4
_TEXT = 200
_NAMES_TOLD = 8


class Guarding:
    """Guards, warnings and measurements of one session.

    Args:
        state: The run's; its progress keeps what is remembered.
        data: To name the windows of a refused update.
        store: Where to go back to.
        config: The recipe's `[guard]`.
        tell: Makes an event: name, message, and more by keyword.
        samples_per_step: Windows in the global batch.
        checkpoint_every: Steps between checkpoints.
        warmup_steps: Of the schedule.
        health_every: Steps between measurements; 0 for none.
        ranks: Who trains.
        shared: The state's model as they share it.
    """

    def __init__(
        self,
        state: TrainState,
        data: TrainingData,
        store: CheckpointStore,
        config: GuardConfig,
        tell: Callable[..., None],
        *,
        samples_per_step: int,
        checkpoint_every: int,
        warmup_steps: int,
        health_every: int,
        ranks: Ranks,
        shared: SharedModel,
    ) -> None:
        self._ranks = ranks
        self._state = state
        self._data = data
        self._store = store
        self._config = config
        self._tell = tell
        self._samples_per_step = samples_per_step
        self._checkpoint_every = checkpoint_every
        self._warmup_steps = warmup_steps
        self._health_every = health_every
        # Copies of a model are alike: one rank looks. Of a sharded one each looks at its part.
        looks = health_every > 0 and (ranks.is_main or state.is_sharded)
        self._probe = HealthProbe(state.model, state.optimizers, shared.whole) if looks else None
        self._objection: str | None = None
        self._blamed: list[str] = []
        self._remember()

    def _remember(self) -> None:
        """Takes up what the progress remembers: at the start, and after going back."""
        progress = self._state.progress
        recent = Recent(progress.guard, max(TREND, self._config.spike_window))
        self._guard = UpdateGuard(self._config, recent, in_a_row=progress.refused_in_a_row)
        self._watch = Watch(progress.guard, recent, warmup_steps=self._warmup_steps)

    # --- during the step --------------------------------------------------------------------------

    def accept(self, loss: float, grad_norm: float) -> bool:
        """Whether the next update may be made; the gradients are at hand."""
        progress, data = self._state.progress, self._data
        if data.stages:
            end = data.after(progress.sample, self._samples_per_step, progress.skipped)
            if any(progress.sample <= stage.start < end for stage in data.stages):
                self._guard.recent.forget()  # another mixture has another loss
        self._objection = self._guard.objection(progress.step + 1, loss, grad_norm)
        self._blamed = [] if self._objection is None else self._not_finite()
        return self._objection is None

    def _not_finite(self) -> list[str]:
        """The parameters whose gradient is not finite, on whichever rank."""
        named = [
            (n, local(p.grad))
            for n, p in self._state.model.named_parameters()
            if p.grad is not None
        ]
        norms = torch.stack(torch._foreach_norm([gradient for _, gradient in named])).tolist()
        bad = self._ranks.sum(*(float(norm - norm != 0.0) for norm in norms))
        return [name for (name, _), where in zip(named, bad, strict=True) if where]

    def around_update(self) -> AbstractContextManager[object]:
        """Measures an update where one is due to be."""
        due = self._probe is not None and (self._state.progress.step + 1) % self._health_every == 0
        return self._probe.around_update() if self._probe is not None and due else nullcontext()

    # --- after the step ---------------------------------------------------------------------------

    def see(
        self,
        outcome: StepOutcome,
        batches: Sequence[Batch],
        autocast: Callable[[], AbstractContextManager[object]],
        *,
        first_sample: int,
        lr_fraction: float,
        clip: float,
    ) -> HealthResult | None:
        """Takes note of a step that is done, and tells what is out of the ordinary.

        Args:
            outcome: What the step did.
            batches: What it was made from.
            autocast: Context of a forward pass.
            first_sample: Where the cursor stood before it.
            lr_fraction: Of the peak learning rate, in force at it.
            clip: The largest gradient norm, in force at it.

        Returns:
            What was measured, where it was due.
        """
        progress = self._state.progress
        if outcome.overflowed:  # by fp16's loss scale, not by the weights or the data
            return None
        if not outcome.applied:
            self._tell_refused(first_sample)
        self._guard.see(
            outcome.loss, outcome.grad_norm, applied=outcome.applied, clipped=outcome.clipped
        )
        progress.refused_in_a_row = self._guard.in_a_row
        health = None
        if self._probe is not None:
            health = self._probe.result(progress.step, outcome.grad_norm, batches[0], autocast)
        if self._config.warn and outcome.applied:
            signs = self._watch.after_step(progress.step, lr_fraction=lr_fraction, clip=clip)
            signs += self._watch.after_health(health) if health is not None else []
            for sign in signs:
                self._tell(sign.name, sign.message)
        return health

    def _tell_refused(self, first_sample: int) -> None:
        """An event that names the windows, so that a person can look at their text."""
        data, skipped = self._data, self._state.progress.skipped
        samples = kept_numbers(first_sample, self._samples_per_step, skipped)
        places = data.places(samples[:_WINDOWS_TOLD])
        texts = data.batch(first_sample, min(len(samples), _TEXTS_TOLD), skipped).ids
        tokenizer = self._state.tokenizer
        self._tell(
            "skipped_step",
            f"{self._objection}: no update was made",
            samples=[int(samples[0]), int(samples[-1]) + 1],
            windows=[
                {"source": p.source, "epoch": p.epoch, "window": p.window, "token": p.token}
                for p in places
            ],
            text=[tokenizer.decode(row.tolist())[:_TEXT] for row in texts],
            **({"not_finite": self._blamed[:_NAMES_TOLD]} if self._blamed else {}),
        )

    # --- when nothing else helps ------------------------------------------------------------------

    @property
    def must_go_back(self) -> bool:
        """Whether too many updates were refused in a row."""
        return self._guard.at_its_end

    def go_back(self) -> bool:
        """Takes the state back to before the refusals and past the windows that led to them.

        Returns:
            Whether that is on the disk already.

        Raises:
            UserError: It has gone back often enough.
        """
        progress = self._state.progress
        refused, at = self._guard.in_a_row, progress.step
        done = len(progress.rollbacks)
        what = f"{refused} updates in a row were refused, up to step {at:,}; the last: "
        what += str(self._objection)
        if done >= self._config.rollbacks:
            raise UserError(
                what + (f". The run has gone back {done} times before" if done else "") + ".",
                fix="The weights of its checkpoints are sound. Look at the data of these steps "
                "(events.jsonl names the windows) and resume with a lower optim.lr; a higher "
                "guard.spike_z or guard.rollbacks lets more pass.",
            )
        rollback = roll_back(
            self._state, self._store, self._ranks, every=self._checkpoint_every, refused=refused
        )
        self._tell(
            "rolled_back",
            f"{what}. Back to step {rollback.to_step:,}; the windows "
            f"{rollback.samples[0]:,} to {rollback.samples[1] - 1:,} are left out from here on",
            step=at,
            to_step=rollback.to_step,
            skipped_samples=list(rollback.samples),
        )
        self._remember()
        problem = commit_rollback(self._state, self._store, self._ranks)
        if problem is not None:
            self._tell("checkpoint_failed", f"going back was not saved: {problem}")
        return problem is None
