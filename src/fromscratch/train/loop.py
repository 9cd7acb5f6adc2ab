"""The training loop.

In: a `TrainState`, the data, an objective, and what is done on schedule (duties.py). Out: the state
after the last step, with everything logged and committed.

Always true: what is done at a step is done in this order: update, its row, validation, HellaSwag,
samples, checkpoint (saver.py: a copy of the state, written while the next steps are made). Rows are
forced to disk before the checkpoint is committed, so a committed checkpoint has all rows up to its
step. What remains to be done at the step of a checkpoint that was taken in a hurry is written in it
(`duties_done`) and is done on resume. However a session ends, nothing is being written any more.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import torch

from fromscratch.checkpoint.state import TrainState
from fromscratch.checkpoint.store import CheckpointStore
from fromscratch.data.batches import TrainingData
from fromscratch.data.consumption import read_more
from fromscratch.foundation.errors import Interrupted
from fromscratch.foundation.hardware import peak_memory_gb
from fromscratch.foundation.schedules import StepSettings
from fromscratch.foundation.seeds import derive_seed
from fromscratch.optim.run_settings import RunSettings
from fromscratch.parallel.ranks import AgreedStop, Ranks
from fromscratch.parallel.share import SharedModel
from fromscratch.track.tracker import (
    SampleResult,
    StepResult,
    Tracker,
)
from fromscratch.train.duties import Duties, Evaluation, HellaSwagScore, Sample
from fromscratch.train.guard_config import GuardConfig
from fromscratch.train.guarding import Guarding
from fromscratch.train.objectives import Measuring, Objective
from fromscratch.train.precision import Precision
from fromscratch.train.results import hellaswag_result, validation_result
from fromscratch.train.saver import SavePlan, Saver
from fromscratch.train.step import StepOutcome, train_step
from fromscratch.train.stop_signal import StopSignal


@dataclass(frozen=True)
class LoopConfig:
    """The numbers of a run's loop.

    Attributes:
        steps: Updates in the whole run.
        samples_per_step: Windows in the global batch, of all ranks.
        micro_batch: Windows in one forward and backward pass of one rank.
        settings: What is in force in each step: learning rates, weight decay, momentum, clip.
        eval_every: Steps between validations; 0 for the first and last step only.
        sample_every: Steps between samples; 0 for none.
        hellaswag_every: Steps between looks at HellaSwag; 0 for none.
        patience: Validations in a row without a new best that end the run; 0 for no such end.
        saves: When checkpoints are made.
        flops_per_token: For MFU.
        peak_flops: Of all ranks' devices together, likewise.
        peak_measured: Whether that was timed, or stands in a data sheet.
        seed: The run's.
        guard: Which updates are refused, and what then.
        health_every: Steps between looks at every layer; 0 for none.
    """

    steps: int
    samples_per_step: int
    micro_batch: int
    settings: RunSettings
    eval_every: int
    sample_every: int
    saves: SavePlan
    flops_per_token: int
    peak_flops: float
    peak_measured: bool
    seed: int
    guard: GuardConfig = field(default_factory=GuardConfig)
    health_every: int = 0
    hellaswag_every: int = 0
    patience: int = 0


class Trainer:
    """Runs a state from where it stands to the last step, or until it is asked to stop.

    Args:
        state: What is trained; changed in place.
        data: Training windows by sample number.
        objective: What is minimised.
        duties: Validation, HellaSwag, samples.
        config: The loop's numbers.
        store: Where checkpoints go.
        tracker: Where results go.
        stop: Asked between micro-batches and between batches of an evaluation.
        precision: What it computes in.
        ranks: Who trains with this process. All run this same loop on the same numbers; only rank 0
            has a store and trackers that write.
        shared: The state's model as the ranks share it.
    """

    def __init__(
        self,
        state: TrainState,
        data: TrainingData,
        objective: Objective,
        duties: Duties,
        config: LoopConfig,
        store: CheckpointStore,
        tracker: Tracker,
        stop: StopSignal,
        precision: Precision,
        ranks: Ranks | None = None,
        shared: SharedModel | None = None,
    ) -> None:
        self.ranks = Ranks() if ranks is None else ranks
        self.shared = SharedModel(state.model) if shared is None else shared
        self.state = state
        self.data = data
        self.objective = self.shared.through(objective)
        self.take = objective.take if isinstance(objective, Measuring) else dict[str, float]
        self.duties = duties
        self.config = config
        self.store = store
        self.tracker = tracker
        self.signal = stop
        self.stop = AgreedStop(stop, self.ranks)
        self.precision = precision
        self.guarding = Guarding(
            state, data, store, config.guard, self._event,
            samples_per_step=config.samples_per_step,
            checkpoint_every=config.saves.every,
            warmup_steps=config.settings.lr.base.warmup_steps,
            health_every=config.health_every,
            ranks=self.ranks,
            shared=self.shared,
        )  # fmt: skip
        self._session_start = time.perf_counter()
        self._seconds_before = state.progress.seconds
        self.saver = Saver(state, store, tracker, config.saves, ranks=self.ranks)

    def run(self) -> bool:
        """Trains.

        Returns:
            Whether the last step was reached; False when a stop was asked for. Either way the state
            is committed.

        Raises:
            UserError: The run cannot go on: not learning, or its state could not be saved.
        """
        try:
            return self._run()
        finally:
            self.saver.close()

    def _run(self) -> bool:
        progress = self.state.progress
        self.state.model.train()
        if self.ranks.is_main:
            self.store.point_again(progress.step, progress.best_step)
        if not progress.duties_done:
            self._do_duties()
        if progress.step == 0 and not self.stop():
            # A checkpoint before the first update proves that there will be checkpoints at all.
            self.saver.save(must=True)
        while not self.is_over and not self.stop():
            if not self._advance():
                break
            if not self._do_duties():
                break
            self.saver.collect()
            # Refused updates have changed nothing; a checkpoint after them would only push out one
            # from before them, to which the run may have to go back.
            if self.saver.due() and not progress.refused_in_a_row:
                self.saver.save()
        self.saver.save(must=True)
        finished = self.is_over and progress.duties_done
        if finished:
            self._event("finished", self._why_over())
        else:
            why = self.signal.requested or "another rank was asked to stop"
            self._event("stopped", f"{why}: saved at step {progress.step:,}")
        return finished

    @property
    def is_over(self) -> bool:
        """Whether the last step is done, or validation has not become better for long enough."""
        return self.state.progress.is_over(self.config.steps, self.config.patience)

    def _why_over(self) -> str:
        progress, steps = self.state.progress, self.config.steps
        if progress.step >= steps:
            return f"all {steps:,} steps done"
        return (
            f"stopped early at step {progress.step:,} of {steps:,}: the validation loss was best "
            f"at step {progress.best_step:,} ({progress.best_val_loss:.4f}) and not below that in "
            f"the {progress.since_best} validations since"
        )

    # --- one step ---------------------------------------------------------------------------------

    def _advance(self) -> bool:
        """Makes the next update and logs it; False when it was interrupted and undone."""
        config, progress = self.config, self.state.progress
        step = progress.step + 1
        settings = config.settings.at(step)
        begin = time.perf_counter()
        first, skipped = progress.sample, progress.skipped
        before_ours, n_samples = self.ranks.part(0, config.samples_per_step)
        batches = self.data.micro_batches(
            self.data.after(first, before_ours, skipped), n_samples, config.micro_batch, skipped
        )
        # Dropout draws from the global generators; their state is a function of the step.
        # On ranks of their own it differs; rank 0's is that of a process alone.
        rank = self.ranks.world.rank
        torch.manual_seed(derive_seed(config.seed, "step", step, *([rank] if rank else [])))
        scaler = self.precision.scaler(progress.scaler)
        loss_scale = None if scaler is None else scaler.scale
        outcome = train_step(
            self.state.model,
            self.objective,
            self.state.optimizers,
            batches,
            settings=settings,
            autocast=self.precision.autocast,
            scaler=scaler,
            should_stop=self.stop,
            accept=self.guarding.accept,
            around_update=self.guarding.around_update,
            ranks=self.ranks,
            syncing=self.shared.syncing,
            take=self.take,
        )
        if outcome is None:
            return False
        if scaler is not None:
            progress.scaler = scaler.state()
        if outcome.overflowed:
            message = f"a gradient was too large for fp16: loss scale {loss_scale:,.0f} halved"
            self._event("overflow", message, step=step)
        progress.step = step
        progress.sample = self.data.after(first, config.samples_per_step, skipped)
        progress.read = read_more(progress.read, self.data, first, progress.sample, skipped)
        progress.tokens += outcome.n_targets
        progress.seconds = self._elapsed()
        progress.duties_done = False
        # Without the padding that a batch does without.
        positions = self.ranks.size * sum(batch.ids.numel() for batch in batches)
        rate = positions / (time.perf_counter() - begin)
        self._log_step(outcome, settings, loss_scale, rate)
        health = self.guarding.see(
            outcome,
            batches,
            self.precision.autocast,
            first_sample=first,
            lr_fraction=settings.lr,
            clip=settings.clip,
        )
        if health is not None:
            self.tracker.health(health)
        if self.guarding.must_go_back:
            self._go_back()
        return True

    def _go_back(self) -> None:
        """Goes on from an earlier checkpoint, with other windows."""
        self.saver.wait()
        committed = self.guarding.go_back()
        self.saver.start_from_here(saved=committed)
        progress = self.state.progress
        self.tracker.rewind(progress.step, duties_done=progress.duties_done)

    def _log_step(
        self,
        outcome: StepOutcome,
        settings: StepSettings,
        loss_scale: float | None,
        rate: float,
    ) -> None:
        config, progress = self.config, self.state.progress
        values = self.state.optimizers.in_force(settings)
        self._log_phase()
        is_mixture = len(self.data.sources) > 1
        at = (progress.sample, progress.skipped)
        wanted = self.data.wanted(*at) if is_mixture else {}
        self.tracker.step(
            StepResult(
                step=progress.step,
                tokens=progress.tokens,
                loss=outcome.loss,
                lr=config.settings.optim.lr * settings.lr,
                grad_norm=outcome.grad_norm,
                clipped=outcome.clipped,
                tokens_per_s=rate,
                mfu=rate * config.flops_per_token / config.peak_flops,
                seconds=progress.seconds,
                epochs=self.data.epochs(*at),
                drawn=self.data.drawn(*at) if is_mixture else {},
                wanted={name: round(windows, 2) for name, windows in wanted.items()},
                lrs=values.lrs,
                weight_decay=values.weight_decay,
                momentum=values.momentum,
                applied=outcome.applied,
                loss_scale=loss_scale,
                overflowed=None if loss_scale is None else outcome.overflowed,
                memory_gb=peak_memory_gb(self.state.model.device),
                measures=outcome.measures,
            )
        )

    def _log_phase(self) -> None:
        """Says so where a phase begins with this step (R38)."""
        settings, step = self.config.settings, self.state.progress.step
        if settings.begins(step):
            number = settings.phase_of(step)
            self._event("phase", settings.describe_phase(number), phase=number)

    # --- on schedule ------------------------------------------------------------------------------

    def _due(self, every: int) -> bool:
        return every > 0 and self.state.progress.step % every == 0

    def _do_duties(self) -> bool:
        """Does what this step asks for besides its update; False when that was interrupted."""
        config, progress = self.config, self.state.progress
        if progress.duties_done:  # back at a checkpoint, which has them
            return True
        begin = time.perf_counter()
        evaluations: list[Evaluation] = []
        score: HellaSwagScore | None = None
        samples: list[Sample] = []
        at_an_end = progress.step in (0, config.steps)
        try:
            if at_an_end or self._due(config.eval_every):
                evaluations = self.duties.validate(self.stop)
                if evaluations and not self._is_best(evaluations[0].loss):
                    at_an_end |= 0 < config.patience <= progress.since_best + 1
            evaluated = time.perf_counter()
            if config.hellaswag_every and (at_an_end or self._due(config.hellaswag_every)):
                score = self.duties.hellaswag(self.stop)
            answered = time.perf_counter()
            if config.sample_every and (at_an_end or self._due(config.sample_every)):
                # Rank 0 samples alone: it asks whether it was itself told to stop.
                samples = self.duties.sample(self.stop.here)
        except Interrupted:
            return False
        progress.duties_done = True
        progress.seconds = self._elapsed()
        for evaluation in evaluations:
            self.tracker.validation(validation_result(progress, evaluation, evaluated - begin))
        if score is not None:
            self.tracker.hellaswag(hellaswag_result(progress, score, answered - evaluated))
        for sample in samples:
            self.tracker.sample(
                SampleResult(progress.step, sample.prompt, sample.text, sample.seed)
            )
        if evaluations and not self._is_best(evaluations[0].loss):
            progress.since_best += 1
        elif evaluations:
            progress.since_best = 0
            progress.best_val_loss = evaluations[0].loss
            progress.best_step = progress.step
            if self.store.keep_best and progress.step > 0:
                self.saver.save(best=True)
        return True

    def _is_best(self, loss: float) -> bool:
        best = self.state.progress.best_val_loss
        return math.isfinite(loss) and (best is None or loss < best)

    def _event(
        self, name: str, message: str, *, step: int | None = None, **details: object
    ) -> None:
        at = self.state.progress.step if step is None else step
        self.tracker.event(name, at, message, details)

    def _elapsed(self) -> float:
        return self._seconds_before + time.perf_counter() - self._session_start
