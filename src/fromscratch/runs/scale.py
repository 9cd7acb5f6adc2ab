"""Trains a ladder: measures, plans, works, within the seconds that it was given.

In: a recipe and a budget. Out: a folder of runs. Each is an ordinary run in a sweep's machinery, so
several processes can share the ladder, and what a kill leaves behind is resumed.

The budget is of training time, all processes together, measuring included; preparing the data is
not. A run that would not end within it is left out, one that overruns is stopped and left out, and
the law is fitted to the rest.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from fromscratch.data.watching import Watch
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import dump_json, read_json, read_json_lines, write_atomically
from fromscratch.foundation.hardware import resolve_device
from fromscratch.foundation.names import (
    SCALE_LADDER,
    SCALE_SPENT,
    SWEEP_LOCK,
    RunPaths,
    trial_folder,
)
from fromscratch.plan.ladder import choose_ladder, sizes_of
from fromscratch.plan.scaling_law import FEWEST_RUNS
from fromscratch.runs.opened_data import open_data
from fromscratch.runs.recipe import Recipe
from fromscratch.runs.recipe_files import parse_recipe
from fromscratch.runs.scale_bench import Bench
from fromscratch.runs.scale_plan import (
    MOST_EPOCHS,
    LadderPlan,
    Measure,
    read_ladder,
    settle_ladder,
)
from fromscratch.runs.scale_rules import FEWEST_STEPS, check_scalable
from fromscratch.runs.session import Session
from fromscratch.runs.sweep import work
from fromscratch.runs.sweep_study import Claim, SweepStudy, TrialResult
from fromscratch.track.tracker import StepResult, Tracker, Trackers
from fromscratch.train.precision import choose_precision

_PLANNED = 0.85
"""Share of the budget that is planned; the rest is for a machine that has other things to do."""
_EACH = 1.0
"""Seconds that a run takes besides training and validating, on a disk of today."""


# --- planning -------------------------------------------------------------------------------------


def plan_ladder(
    typed: str,
    name: str,
    text: str,
    overrides: Sequence[str],
    budget: float,
    *,
    report: Watch,
    say: Callable[[str], None],
) -> LadderPlan:
    """Prepares the data, measures the sizes on this device, and settles the ladder.

    Args:
        typed: The recipe as the command names it.
        name: Of the recipe.
        text: Its TOML.
        overrides: For all runs, and for the one that the ladder speaks of.
        budget: Seconds.
        report: Told how the preparation goes.
        say: Told what is measured.

    Raises:
        UserError: The recipe cannot be scaled, or not in that time.
    """
    recipe = parse_recipe(text, name=name, overrides=overrides)
    check_scalable(recipe)
    data = open_data(recipe.data, recipe.model, recipe.eval.tokens, report)
    steps = recipe.steps(windows_per_epoch=data.windows_per_epoch)
    if steps is None:
        raise UserError(
            "train.epochs counts passes over one source; this recipe mixes several.",
            fix="Say train.tokens or train.steps.",
        )
    reference = steps * recipe.train.tokens_per_step
    began = time.monotonic()
    with Bench(recipe, reference) as bench:
        sizes = sizes_of(recipe.model)
        least = sizes[0]
        chosen = [least, *(s for s in sizes if s.heads == recipe.model.n_head)]
        while True:
            for size in dict.fromkeys(chosen):
                bench.measure(size, say)
            left = budget * _PLANNED - (time.monotonic() - began)
            each = _EACH + 2 * _validation_seconds(recipe, data.describe(), bench.of(least))
            rungs = choose_ladder(
                sizes,
                lambda size: bench.speed(size),
                max(left, 0.0),
                each=each,
                least_tokens=FEWEST_STEPS * recipe.model.context,
                most_tokens=MOST_EPOCHS * data.training.tokens,
            )
            chosen = [rung.size for rung in rungs]
            if all(bench.knows(size) for size in chosen):
                break
    if len(rungs) < FEWEST_RUNS:
        raise UserError(
            f"A budget of {budget:.0f} s is too little for {FEWEST_RUNS} runs of this recipe's "
            f"smallest sizes on this device (measuring took {time.monotonic() - began:.0f} s).",
            fix="Give more, or a recipe with a smaller head size, vocabulary or context.",
        )
    return settle_ladder(
        recipe,
        text,
        rungs,
        typed=typed,
        budget=budget,
        overrides=tuple(overrides),
        reference=reference,
        device=bench.of(least).device,
        precision=choose_precision(
            recipe.train.precision, resolve_device(recipe.train.device)
        ).name,
        measures=bench.measures(),
        each=each,
        planned_in=time.monotonic() - began,
        data=data.describe(),
    )


def _validation_seconds(recipe: Recipe, data: dict[str, Any], measure: Measure) -> float:
    there = int(data["val_tokens"])
    tokens = min(recipe.eval.tokens or there, there)
    return tokens / max(measure.val_tokens_per_s, 1.0)


# --- the folder -----------------------------------------------------------------------------------


def open_ladder(folder: Path, make: Callable[[], LadderPlan] | None = None) -> SweepStudy:
    """Opens a ladder's folder, or makes it.

    Args:
        folder: It.
        make: Gives the plan where there is none yet; None only to look.

    Raises:
        UserError: It is no ladder, or something else lies there, or a package is missing.
    """
    refuse_missing_packages()
    path = folder / SCALE_LADDER
    if make is not None and not path.exists():
        if folder.exists() and any(entry.name != SWEEP_LOCK for entry in folder.iterdir()):
            raise UserError(
                f"{folder} is not empty, and not a ladder; nothing was touched.",
                fix="Choose another --out.",
            )
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / SWEEP_LOCK):  # of several processes, one measures
            if not path.exists():
                plan = make()
                write_atomically(path, dump_json(plan.to_json(), indent=1) + "\n")
    return SweepStudy(folder, read_ladder(folder))


def refuse_missing_packages() -> None:
    """Refuses to begin what could not be finished.

    Raises:
        UserError: optuna or scipy is missing.
    """
    from importlib.util import find_spec

    for package in ("optuna", "scipy"):
        if find_spec(package) is None:
            raise UserError(
                f"A ladder needs the package {package}, which is not installed.",
                fix="pip install 'fromscratch[scale]'",
            )


# --- working --------------------------------------------------------------------------------------


def spent_seconds(folder: Path, plan: LadderPlan) -> float:
    """What the ladder has taken so far.

    Of a session that was killed, what the run's own rows tell of its training.
    """
    noted = _noted(folder)
    total = plan.planned_in
    for number in range(plan.trials):
        rows = RunPaths(folder / trial_folder(number)).metrics
        told = read_json_lines(rows) if rows.is_file() else ()
        trained = max((float(row.get("seconds", 0)) for row in told), default=0.0)
        total += max(noted.get(str(number), 0.0), trained)
    return total


def _noted(folder: Path) -> dict[str, float]:
    path = folder / SCALE_SPENT
    return dict(read_json(path)) if path.is_file() else {}


class _Pace:
    """How long runs take, by the plan and by the runs that ended in this session."""

    def __init__(self, plan: LadderPlan) -> None:
        self._plan = plan
        self._slowness = 1.0  # of training, against what was measured
        self._each = math.inf  # of a run besides training

    def learn(self, number: int, result: TrialResult, took: float) -> None:
        """A run took so many seconds; the first one of a session also loads what all need."""
        trained = result.tokens / result.tokens_per_s
        self._each = min(self._each, max(took - trained, 0.0))
        self._slowness = trained / (self._plan.seconds[number] - self._plan.each)

    def seconds(self, number: int) -> float:
        """That a run should take."""
        planned, each = self._plan.seconds[number], self._plan.each
        return (planned - each) * self._slowness + (each if math.isinf(self._each) else self._each)


class _Deadline(Trackers):
    """Stops a session when the ladder's time is up, as a person would: it saves and stops."""

    def __init__(self, at: float) -> None:
        super().__init__([])
        self._at = at
        self.passed = False

    def step(self, result: StepResult) -> None:
        if not self.passed and time.monotonic() > self._at:
            self.passed = True
            signal.raise_signal(signal.SIGTERM)


def work_on_ladder(
    study: SweepStudy,
    *,
    report: Watch,
    listeners: Callable[[Session], Sequence[Tracker]],
    on_begin: Callable[[Claim, bool, float], None],
    on_end: Callable[[Claim, TrialResult | str], None],
) -> bool:
    """Trains the runs of a ladder that are left, within its budget.

    Args:
        study: The ladder's.
        report: Told how data is opened.
        listeners: Makes the trackers of a run's session.
        on_begin: Told of each run, whether it goes on from a checkpoint, and how many seconds the
            rest of the ladder should take.
        on_end: Told of its result, or why it has none.

    Returns:
        False when it was asked to stop.
    """
    plan, folder = study.plan, study.folder
    assert isinstance(plan, LadderPlan)
    pace = _Pace(plan)
    clock = [0.0, time.monotonic()]  # when the run at hand began, and when time is up
    at_hand = [0]
    deadlines: list[_Deadline] = []

    def admit(claim: Claim) -> str | None:
        left = plan.budget - spent_seconds(folder, plan)
        needed = pace.seconds(claim.number)
        begun = RunPaths(claim.run).recipe.is_file()
        if left <= 0 or (needed > left and not begun):
            return f"the budget has {max(left, 0):.0f} s left, and it would take {needed:.0f} s"
        clock[:] = [time.monotonic(), time.monotonic() + left]
        at_hand[:] = [claim.number]
        return None

    def begin(claim: Claim, begun: bool) -> None:
        on_begin(claim, begun, sum(map(pace.seconds, range(claim.number, plan.trials))))

    def listen(session: Session) -> Sequence[Tracker]:
        deadlines.append(_Deadline(clock[1]))
        return [*listeners(session), deadlines[-1]]

    def end(claim: Claim, result: TrialResult | str) -> None:
        if clock[0]:
            took = time.monotonic() - clock[0]
            _note(study, claim.number, took)
            if not isinstance(result, str):
                pace.learn(claim.number, result, took)
            clock[0] = 0.0
        on_end(claim, result)

    while True:
        if work(study, report=report, listeners=listen, on_begin=begin, on_end=end, admit=admit):
            return True
        _note(study, at_hand[0], time.monotonic() - clock[0])
        if not any(deadline.passed for deadline in deadlines):
            return False
        deadlines.clear()  # the run that was stopped is taken up again, and not admitted


def _note(study: SweepStudy, number: int, seconds: float) -> None:
    with study.alone():
        noted = _noted(study.folder)
        noted[str(number)] = noted.get(str(number), 0.0) + seconds
        write_atomically(study.folder / SCALE_SPENT, dump_json(noted) + "\n")
