"""What the rules look at: a run's record, and what several of them need worked out from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fromscratch.report import series
from fromscratch.report.diagnosis.jumps import EXPECTED, Jump, find_jumps
from fromscratch.report.diagnosis.rate_changes import RateChange, rate_changes
from fromscratch.report.diagnosis.spikes import find_spikes
from fromscratch.report.facts import Facts, Validation, started_with, validations_of
from fromscratch.report.record import Event, FloatArray, RunRecord, Table, number

# Of an epoch: the stretch in which a jump is looked for.
_SHORT_OF_AN_EPOCH = 0.5
_CHANGED_ON_PURPOSE = {"recipe_changed", "learning_rate_rises", "data_changed", "phase_began"}

SEVERAL = 3
"""Spikes from which on they are the run's own and not an accident of the text."""


@dataclass(frozen=True)
class Evidence:
    """A run as the rules see it.

    Attributes:
        record: What the files say.
        facts: What they come down to.
    """

    record: RunRecord
    facts: Facts

    @cached_property
    def training(self) -> tuple[FloatArray, FloatArray]:
        """Steps and losses of the logged steps whose loss can be drawn."""
        return self.column("loss")

    @cached_property
    def validations(self) -> tuple[Validation, ...]:
        """The headline's set, where its loss was measured."""
        name = self.facts.validation_set
        return _measured(self.record.validation[name]) if name is not None else ()

    @cached_property
    def other_validations(self) -> dict[str, tuple[Validation, ...]]:
        """The same of all other sets, by name."""
        return {
            name: _measured(table)
            for name, table in self.record.validation.items()
            if name != self.facts.validation_set
        }

    @cached_property
    def jumps(self) -> list[Jump]:
        """Of the training loss, those that are certain where something is known to have changed."""
        return find_jumps(self.training[1], least_score=EXPECTED)

    @cached_property
    def spikes(self) -> list[float]:
        """The steps at which the loss leaves its level upwards, but for planned other text."""
        x, y = self.training
        steps = [(float(x[i - 1]), float(x[i])) for i in find_spikes(y)]
        return [at for before, at in steps if self.stage_at(before, at) is None]

    @cached_property
    def rate_changes(self) -> list[RateChange]:
        """Where the learning rate does what no schedule does."""
        return rate_changes(*self.column("lr"))

    @cached_property
    def stages(self) -> tuple[tuple[float, float], ...]:
        """First and last step of each change of the mixture that the recipe plans."""
        data = self.record.recipe.get("data")
        stages = data.get("stage") if isinstance(data, Mapping) else None
        found = []
        for stage in stages if isinstance(stages, list) else []:
            begin = number(stage.get("from_tokens")) if isinstance(stage, Mapping) else None
            if begin is not None and np.isfinite(begin):
                end = begin + (number(stage.get("blend_tokens")) or 0.0)
                found.append((self._step_at(begin), self._step_at(end)))
        return tuple(found)

    @cached_property
    def phases(self) -> tuple[float, ...]:
        """The first step of each phase that the recipe plans."""
        train = self.record.recipe.get("train")
        phases = train.get("phase") if isinstance(train, Mapping) else None
        steps = [
            number(phase.get("from_step"))
            for phase in (phases if isinstance(phases, list) else [])
            if isinstance(phase, Mapping)
        ]
        return tuple(step for step in steps if step is not None)

    @cached_property
    def epochs(self) -> float | None:
        """How often the text was trained on, that of the most used source; None if unknown."""
        columns = self.record.training.columns
        told = [values for name, values in columns.items() if name.startswith("epochs/")]
        if told:
            every = np.concatenate(told)
            return float(np.nanmax(every)) if np.isfinite(every).any() else None
        data = started_with(self.record.events, "data")
        if not isinstance(data, Mapping) or self.facts.tokens is None:
            return None
        sources, tokens = data.get("sources"), number(data.get("train_tokens"))
        if not isinstance(sources, list) or len(sources) != 1 or not tokens:
            return None
        return self.facts.tokens / tokens

    def column(self, name: str) -> tuple[FloatArray, FloatArray]:
        """Steps and values of a column of the training rows, where they can be drawn."""
        values = self.record.training.column(name)
        ok = series.drawable(values)
        return self.record.training.step[ok], values[ok]

    def of_recipe(self, *keys: str) -> object:
        """What the recipe says under nested keys; None if nothing."""
        value: object = self.record.recipe
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def mean_near(self, step: float) -> float | None:
        """The training loss around `step`: the mean of 2% of the logged steps, up to it."""
        x, y = self.training
        end = int(np.searchsorted(x, step, side="right"))
        start = max(0, end - max(1, series.smoothing_window(len(y))))
        return float(y[start:end].mean()) if end > start else None

    def stage_at(self, first: float, last: float) -> int | None:
        """The number of the recipe's stage, from 2, that begins or blends between two steps."""
        stages = enumerate(self.stages, 2)
        return next((n for n, (a, b) in stages if a <= last and first <= b), None)

    def changed_on_purpose(self, first: float, last: float) -> Event | None:
        """An event that says what was changed between two steps, both included."""
        for event in self.record.events:
            known = event.kind in _CHANGED_ON_PURPOSE and event.step is not None
            if known and first <= (event.step or 0) <= last:
                return event
        return None

    def resumed_within(self, first: float, last: float) -> bool:
        """Whether the run was taken up again between two steps, both included."""
        return any(
            e.kind == "resumed" and e.step is not None and first <= e.step <= last
            for e in self.record.events
        )

    def begins_again(self, first: float, last: float) -> str | None:
        """The source whose text begins again between two steps, the second time or a later one."""
        for name in self.record.training.under("epochs"):
            steps, read = self.column(f"epochs/{name}")
            if len(steps) < 2:
                continue
            before, after = np.interp([first, last], steps, read)
            # One that is gone through within a few steps begins again everywhere.
            if np.floor(after) > np.floor(before) >= 0 and after - before < _SHORT_OF_AN_EPOCH:
                return name
        return None

    def _step_at(self, tokens: float) -> float:
        """The step after which so many tokens were trained on."""
        steps, done = self.column("tokens")
        per_step = number(self.of_recipe("train", "tokens_per_step"))
        if per_step is not None and per_step > 0:
            return tokens / per_step
        if not len(done) or not np.all(np.diff(done) >= 0):
            return float("nan")
        return float(np.interp(tokens, done, steps, right=np.nan))


def _measured(table: Table) -> tuple[Validation, ...]:
    """The validations whose loss can be drawn."""
    ok = series.drawable(table.column("val_loss"))
    return tuple(v for v, is_ok in zip(validations_of(table), ok, strict=True) if is_ok)
