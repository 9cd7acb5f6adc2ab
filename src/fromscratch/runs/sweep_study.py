"""The trials of a sweep as several processes share them: Optuna's journal in the sweep's folder.

Who works on a trial holds a lock on its file until the result is written. A lock is gone with the
process that held it, so a trial that is under way in the journal and not locked was left by a kill,
and is the first that the next process takes. Trials are given out under the sweep's own lock, so
each is done once, and what is drawn depends on the results so far alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import dump_json, read_json, write_atomically
from fromscratch.foundation.names import (
    SWEEP_JOURNAL,
    SWEEP_LOCK,
    SWEEP_PLAN,
    trial_folder,
    trial_lock_file,
)
from fromscratch.foundation.seeds import derive_seed
from fromscratch.runs.sweep_plan import Choices, Measure, SweepPlan, plan_from_json

if TYPE_CHECKING:
    import optuna

_STUDY = "sweep"
_VALUES, _RESULT, _REASON = "values", "result", "reason"


@dataclass(frozen=True)
class TrialResult:
    """How a trial ended.

    Attributes:
        val_bpb: Bits per byte of the held-out text after the last step.
        best_bpb: The lowest of the run's validations.
        val_loss: The objective's own loss after the last step: nats per token, or per pair.
        tokens: Trained on.
        steps: Updates.
        seconds: Of training, over all sessions.
        tokens_per_s: The median over its steps.
        best_loss: The lowest of the run's validations; None in sweeps before this was kept.
        measure: Which of them is compared.
    """

    val_bpb: float
    best_bpb: float
    val_loss: float
    tokens: int
    steps: int
    seconds: float
    tokens_per_s: float
    best_loss: float | None = None
    measure: Measure = "val_bpb"

    @property
    def value(self) -> float:
        """What is compared."""
        return self.val_bpb if self.measure == "val_bpb" else self.val_loss

    @property
    def lowest(self) -> float:
        """The same where the run was at its best."""
        if self.measure == "val_bpb":
            return self.best_bpb
        return self.val_loss if self.best_loss is None else self.best_loss


@dataclass(frozen=True)
class TrialRow:
    """A trial as the table shows it. `state`: waiting, running, stopped, done or failed."""

    number: int
    state: str
    values: dict[str, str]
    result: TrialResult | None
    reason: str | None
    run: str


@dataclass(frozen=True)
class Claim:
    """A trial that is ours: its number, its values, its run folder."""

    number: int
    values: dict[str, str]
    run: Path


class SweepStudy:
    """A sweep's folder, opened.

    Args:
        folder: It; must exist.
        plan: What is tried.
    """

    def __init__(self, folder: Path, plan: SweepPlan) -> None:
        import optuna
        from optuna.storages.journal import (
            JournalFileBackend,
            JournalFileOpenLock,
            JournalStorage,
        )

        optuna.logging.set_verbosity(logging.WARNING)
        self.folder = folder
        self.plan = plan
        self._lock = FileLock(folder / SWEEP_LOCK)
        journal = str(folder / SWEEP_JOURNAL)
        # Not the lock by symbolic link, which Windows keeps for administrators.
        backend = JournalFileBackend(journal, lock_obj=JournalFileOpenLock(journal))
        with self._lock:
            self._study = optuna.create_study(
                study_name=_STUDY,
                storage=JournalStorage(backend),
                direction="minimize",
                load_if_exists=True,
            )
            if plan.sampler == "grid":  # what a kill left out comes after what is there
                there = len(self._study.get_trials(deepcopy=False))
                for values in list(plan.combinations())[there:]:
                    self._study.enqueue_trial(values)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While the other processes of the sweep take nothing."""
        with self._lock:
            yield

    @contextmanager
    def next_trial(self) -> Iterator[Claim | None]:
        """Yields a trial that nobody works on, and keeps it ours; None when there is none."""
        with self._lock:
            claimed = self._left_behind() or self._fresh()
        if claimed is None:
            yield None
            return
        claim, lock = claimed
        try:
            yield claim
        finally:
            lock.release()

    def finish(self, number: int, result: TrialResult) -> None:
        """Writes down a trial's result."""
        from optuna.trial import TrialState

        self._note(number, _RESULT, asdict(result))
        self._study.tell(number, result.value, TrialState.COMPLETE)

    def fail(self, number: int, reason: str) -> None:
        """Writes down that a trial has no result."""
        from optuna.trial import TrialState

        self._note(number, _REASON, reason)
        self._study.tell(number, state=TrialState.FAIL)

    def rows(self) -> list[TrialRow]:
        """All trials: the best first, then those without a result."""
        rows = [self._row(trial) for trial in self._study.get_trials(deepcopy=False)]
        return sorted(
            rows, key=lambda r: (r.result is None, r.result.value if r.result else 0.0, r.number)
        )

    def _row(self, trial: optuna.trial.FrozenTrial) -> TrialRow:
        state = trial.state.name.lower()
        state = {"complete": "done", "fail": "failed"}.get(state, state)
        if state == "running" and (lock := self._try_lock(trial.number)) is not None:
            lock.release()
            state = "stopped"
        result = trial.user_attrs.get(_RESULT)
        values = trial.user_attrs.get(_VALUES) or trial.system_attrs.get("fixed_params", {})
        return TrialRow(
            number=trial.number,
            state=state,
            values=dict(values),
            result=None if result is None else TrialResult(**result),
            reason=trial.user_attrs.get(_REASON),
            run=trial_folder(trial.number),
        )

    def _left_behind(self) -> tuple[Claim, FileLock] | None:
        """The first trial that was under way when its process ended."""
        from optuna.trial import TrialState

        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            lock = self._try_lock(trial.number)
            if lock is None:
                continue
            row = self._row(trial)
            if row.values:
                return self._claim(trial.number, row.values), lock
            # A kill between the trial's number and its values: another is drawn in its place.
            self.fail(trial.number, "killed before its values were drawn")
            lock.release()
        return None

    def _fresh(self) -> tuple[Claim, FileLock] | None:
        """The next combination, or values that are drawn now."""
        from optuna.trial import TrialState

        trials = self._study.get_trials(deepcopy=False)
        if self.plan.sampler == "grid":
            if not any(trial.state == TrialState.WAITING for trial in trials):
                return None
        elif sum(_VALUES in trial.user_attrs for trial in trials) >= self.plan.trials:
            return None
        self._study.sampler = self._sampler(len(trials))
        trial = self._study.ask()
        lock = self._try_lock(trial.number)
        assert lock is not None, "trials are given out by one process at a time"
        values = self._suggest(trial)
        trial.set_user_attr(_VALUES, values)
        return self._claim(trial.number, values), lock

    def _suggest(self, trial: optuna.trial.Trial) -> dict[str, str]:
        suggested: dict[str, str] = {}
        for key, axis in self.plan.axes.items():
            if isinstance(axis, Choices):
                suggested[key] = str(trial.suggest_categorical(key, list(axis.values)))
            elif axis.whole:
                low, high = round(axis.low), round(axis.high)
                suggested[key] = str(trial.suggest_int(key, low, high, log=axis.log))
            else:
                value = trial.suggest_float(key, axis.low, axis.high, log=axis.log)
                suggested[key] = f"{value:.4g}"
        return suggested

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        import optuna

        seed = derive_seed(0, "sweep", number) % 2**32
        if self.plan.sampler == "tpe":
            # Trials that others have under way count as bad ones, so that nobody draws them again.
            return optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        return optuna.samplers.RandomSampler(seed=seed)

    def _claim(self, number: int, values: dict[str, str]) -> Claim:
        return Claim(number, values, self.folder / trial_folder(number))

    def _try_lock(self, number: int) -> FileLock | None:
        lock = FileLock(self.folder / trial_lock_file(number))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return None
        return lock

    def _note(self, number: int, key: str, value: Any) -> None:
        import optuna

        (trial,) = (t for t in self._study.get_trials(deepcopy=False) if t.number == number)
        optuna.trial.Trial(self._study, trial._trial_id).set_user_attr(key, value)


def open_sweep(folder: Path, plan: SweepPlan | None = None) -> SweepStudy:
    """Opens a sweep's folder, or with a plan makes it; the same plan joins a sweep that is there.

    Raises:
        UserError: optuna is missing, it is no sweep, or one that tries something else.
    """
    _refuse_missing_optuna()
    path = folder / SWEEP_PLAN
    if plan is not None and not path.exists():
        if folder.exists() and any(not name.startswith(".") for name in _names(folder)):
            raise UserError(
                f"{folder} is not empty, and not a sweep; nothing was touched.",
                fix="Choose another --out.",
            )
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / SWEEP_LOCK):
            if not path.exists():
                write_atomically(path, dump_json(plan.to_json(), indent=2) + "\n")
    if not path.is_file():
        raise UserError(
            f"{folder} is not a sweep (it has no {SWEEP_PLAN}).",
            fix="Start one: fromscratch sweep RECIPE optim.lr=1e-4,3e-4,1e-3",
        )
    kept = plan_from_json(read_json(path))
    if plan is not None and plan != kept:
        raise UserError(
            f"{folder} is a sweep that tries something else.",
            fix="Choose another --out, or repeat its own command to go on with it.",
        )
    return SweepStudy(folder, kept)


def _names(folder: Path) -> Iterator[str]:
    # The lock is there for a moment before the plan is, when several processes begin at once.
    return (path.name for path in folder.iterdir() if path.name != SWEEP_LOCK)


def _refuse_missing_optuna() -> None:
    from importlib.util import find_spec

    if find_spec("optuna") is None:
        raise UserError(
            "A sweep needs the package optuna, which is not installed.",
            fix="pip install 'fromscratch[sweep]'",
        )
