"""The training loop.

In: a `TrainState`, the data, an objective, and three things to do on schedule (validate, sample,
save). Out: the state after the last step, with everything logged and committed.

Always true: what is done at a step is done in this order: update, its row, validation, samples,
checkpoint. Rows are forced to disk before the checkpoint is committed, so a committed checkpoint
has all rows up to its step. What remains to be done at the step of a checkpoint that was taken in a
hurry is written in it (`duties_done`) and is done on resume.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch

from fromscratch.checkpoint.state import TrainState
from fromscratch.checkpoint.store import CheckpointStore
from fromscratch.data.batches import TrainingData
from fromscratch.foundation.errors import Interrupted, UserError
from fromscratch.foundation.schedules import Schedule
from fromscratch.foundation.seeds import derive_seed
from fromscratch.parallel.ranks import AgreedStop, Ranks
from fromscratch.parallel.share import SharedModel
from fromscratch.track.tracker import SampleResult, StepResult, Tracker, ValidationResult
from fromscratch.train.guard import StopSignal, UpdateGuard
from fromscratch.train.objectives import Objective
from fromscratch.train.step import StepOutcome, train_step


@dataclass(frozen=True)
class LoopConfig:
    """The numbers of a run's loop.

    Attributes:
        steps: Updates in the whole run.
        samples_per_step: Windows in the global batch, of all ranks.
        micro_batch: Windows in one forward and backward pass of one rank.
        schedule: Fraction of the peak learning rates by step.
        lr: AdamW's peak, for the log.
        clip: Largest global gradient norm; 0 for none.
        eval_every: Steps between validations; 0 for the first and last step only.
        sample_every: Steps between samples; 0 for none.
        checkpoint_every: Steps between checkpoints.
        flops_per_token: For MFU.
        peak_flops: Of all ranks' devices together, likewise.
        seed: The run's.
    """

    steps: int
    samples_per_step: int
    micro_batch: int
    schedule: Schedule
    lr: float
    clip: float
    eval_every: int
    sample_every: int
    checkpoint_every: int
    flops_per_token: int
    peak_flops: float
    seed: int


@dataclass(frozen=True)
class Evaluation:
    """One validation set's result: nats per token, perplexity, bits per byte, targets."""

    set: str
    loss: float
    perplexity: float
    bits_per_byte: float
    n_targets: int


@dataclass(frozen=True)
class Sample:
    """One continuation."""

    prompt: str
    text: str
    seed: int


class Duties(Protocol):
    """What a run does besides updates; both leave the model as it was."""

    def validate(self, should_stop: Callable[[], bool]) -> list[Evaluation]:
        """Evaluates on every validation set, the pooled one first.

        Raises:
            Interrupted: `should_stop` said so.
        """

    def sample(self, should_stop: Callable[[], bool]) -> list[Sample]:
        """Continues the fixed prompts; raises as `validate` does.

        Args:
            should_stop: Of this rank alone.
        """


class Trainer:
    """Runs a state from where it stands to the last step, or until it is asked to stop.

    Args:
        state: What is trained; changed in place.
        data: Training windows by sample number.
        objective: What is minimised.
        duties: Validation and samples.
        config: The loop's numbers.
        store: Where checkpoints go.
        tracker: Where results go.
        stop: Asked between micro-batches and between batches of an evaluation.
        autocast: Context of the forward pass.
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
        autocast: Callable[[], AbstractContextManager[object]] = nullcontext,
        ranks: Ranks | None = None,
        shared: SharedModel | None = None,
    ) -> None:
        self.ranks = Ranks() if ranks is None else ranks
        self.shared = SharedModel(state.model) if shared is None else shared
        self.state = state
        self.data = data
        self.objective = self.shared.through(objective)
        self.duties = duties
        self.config = config
        self.store = store
        self.tracker = tracker
        self.signal = stop
        self.stop = AgreedStop(stop, self.ranks)
        self.autocast = autocast
        self.guard = UpdateGuard(in_a_row=state.progress.refused_in_a_row)
        self._session_start = time.perf_counter()
        self._seconds_before = state.progress.seconds
        self._saved_step: int | None = None
        # Resumed from a checkpoint that was taken before the duties of its step were done: once
        # they are, what it says of them is out of date.
        self._unfinished_step = None if state.progress.duties_done else state.progress.step

    def run(self) -> bool:
        """Trains.

        Returns:
            Whether the last step was reached; False when a stop was asked for. Either way the state
            is committed.

        Raises:
            UserError: The run cannot go on: not learning, or its state could not be saved.
        """
        progress = self.state.progress
        self.state.model.train()
        if self.ranks.is_main:
            self.store.point_again(progress.step, progress.best_step)
        if not progress.duties_done:
            self._do_duties()
        if progress.step == 0 and not self.stop():
            # A checkpoint before the first update proves that there will be checkpoints at all.
            self._save(must=True)
        while progress.step < self.config.steps and not self.stop():
            if not self._advance():
                break
            if not self._do_duties():
                break
            if self._due(self.config.checkpoint_every):
                self._save()
        self._save(must=True)
        finished = progress.step >= self.config.steps and progress.duties_done
        if finished:
            self._event("finished", f"all {self.config.steps:,} steps done")
        else:
            why = self.signal.requested or "another rank was asked to stop"
            self._event("stopped", f"{why}: saved at step {progress.step:,}")
        return finished

    # --- one step ---------------------------------------------------------------------------------

    def _advance(self) -> bool:
        """Makes the next update and logs it; False when it was interrupted and undone."""
        config, progress = self.config, self.state.progress
        step = progress.step + 1
        begin = time.perf_counter()
        # Dropout draws from the global generators; their state is a function of the step.
        # On ranks of their own it differs; rank 0's is that of a process alone.
        rank = self.ranks.world.rank
        torch.manual_seed(derive_seed(config.seed, "step", step, *([rank] if rank else [])))
        first, n_samples = self.ranks.part(progress.sample, config.samples_per_step)
        outcome = train_step(
            self.state.model,
            self.objective,
            self.state.optimizers,
            self.data.micro_batches(first, n_samples, config.micro_batch),
            fraction=config.schedule.at(step),
            clip=config.clip,
            autocast=self.autocast,
            should_stop=self.stop,
            ranks=self.ranks,
            syncing=self.shared.syncing,
        )
        if outcome is None:
            return False
        if not outcome.applied:
            self._event(
                "skipped_step",
                f"loss {outcome.loss}, gradient norm {outcome.grad_norm}: no update was made",
                step=step,
                samples=[progress.sample, progress.sample + config.samples_per_step],
            )
        progress.step = step
        progress.sample += config.samples_per_step
        progress.tokens += outcome.n_targets
        progress.seconds = self._elapsed()
        progress.duties_done = False
        self._log_step(outcome, seconds=time.perf_counter() - begin)
        self.guard.see(applied=outcome.applied, step=step)
        progress.refused_in_a_row = self.guard.in_a_row
        return True

    def _log_step(self, outcome: StepOutcome, *, seconds: float) -> None:
        config, progress = self.config, self.state.progress
        rate = config.samples_per_step * self.data.context / seconds
        is_mixture = len(self.data.sources) > 1
        wanted = self.data.wanted(progress.sample) if is_mixture else {}
        self.tracker.step(
            StepResult(
                step=progress.step,
                tokens=progress.tokens,
                loss=outcome.loss,
                lr=config.lr * config.schedule.at(progress.step),
                grad_norm=outcome.grad_norm,
                clipped=outcome.clipped,
                tokens_per_s=rate,
                mfu=rate * config.flops_per_token / config.peak_flops,
                seconds=progress.seconds,
                epochs=self.data.epochs(progress.sample),
                drawn=self.data.drawn(progress.sample) if is_mixture else {},
                wanted={name: round(windows, 2) for name, windows in wanted.items()},
            )
        )

    # --- on schedule ------------------------------------------------------------------------------

    def _due(self, every: int) -> bool:
        return every > 0 and self.state.progress.step % every == 0

    def _at_an_end(self) -> bool:
        return self.state.progress.step in (0, self.config.steps)

    def _do_duties(self) -> bool:
        """Validates and samples where this step asks for it; False when that was interrupted."""
        config, progress = self.config, self.state.progress
        begin = time.perf_counter()
        evaluations: list[Evaluation] = []
        samples: list[Sample] = []
        try:
            if self._at_an_end() or self._due(config.eval_every):
                evaluations = self.duties.validate(self.stop)
            eval_seconds = time.perf_counter() - begin
            if config.sample_every and (self._at_an_end() or self._due(config.sample_every)):
                # Rank 0 samples alone: it asks whether it was itself told to stop.
                samples = self.duties.sample(self.stop.here)
        except Interrupted:
            return False
        progress.duties_done = True
        progress.seconds = self._elapsed()
        for evaluation in evaluations:
            self._log_evaluation(evaluation, eval_seconds)
        for sample in samples:
            self.tracker.sample(
                SampleResult(progress.step, sample.prompt, sample.text, sample.seed)
            )
        if evaluations and self._is_best(evaluations[0].loss):
            progress.best_val_loss = evaluations[0].loss
            progress.best_step = progress.step
            if self.store.keep_best and progress.step > 0:
                self._save(best=True)
        return True

    def _is_best(self, loss: float) -> bool:
        best = self.state.progress.best_val_loss
        return math.isfinite(loss) and (best is None or loss < best)

    def _log_evaluation(self, evaluation: Evaluation, eval_seconds: float) -> None:
        progress = self.state.progress
        self.tracker.validation(
            ValidationResult(
                step=progress.step,
                tokens=progress.tokens,
                set=evaluation.set,
                val_loss=evaluation.loss,
                val_ppl=evaluation.perplexity,
                val_bpb=evaluation.bits_per_byte,
                val_tokens=evaluation.n_targets,
                seconds=progress.seconds,
                eval_seconds=eval_seconds,
            )
        )

    def _save(self, *, best: bool = False, must: bool = False) -> None:
        """Commits a checkpoint of the state as it stands.

        A full disk does not end a run: the checkpoints before are whole, and the next save may find
        room. Only the first save of a run and the last of a session must succeed.
        """
        progress = self.state.progress
        # Rank 0 decides for all: only there can a save have failed before.
        wanted = self.ranks.is_main and (self._saved_step != progress.step or best)
        if not self.ranks.any(wanted):
            return
        whole = self.state.gather(keep=self.ranks.is_main) if self.state.is_sharded else None
        if not self.ranks.is_main:
            return
        replace = progress.duties_done and self._unfinished_step == progress.step
        try:
            self.tracker.flush()
            folder = self.store.save(
                progress.step,
                lambda path: self.state.write(path, whole),
                best=best,
                replace=replace,
            )
        except OSError as error:
            reason = error.strerror or str(error)
            self._event("checkpoint_failed", f"not saved at step {progress.step:,}: {reason}")
            if must:
                steps = self.store.steps()
                newest = f"The newest checkpoint is that of step {steps[-1]:,}." if steps else ""
                raise UserError(
                    f"The state at step {progress.step:,} could not be saved ({reason}). {newest}",
                    fix="Make room and resume: the steps since then are trained again.",
                ) from error
            return
        if replace:
            self._unfinished_step = None
        self._saved_step = progress.step
        self._event("checkpoint", folder.name, best=best)

    def _event(
        self, name: str, message: str, *, step: int | None = None, **details: object
    ) -> None:
        at = self.state.progress.step if step is None else step
        self.tracker.event(name, at, message, details)

    def _elapsed(self) -> float:
        return self._seconds_before + time.perf_counter() - self._session_start
