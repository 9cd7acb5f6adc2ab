"""The figures that a run comes down to, each from the record alone.

In: a `RunRecord`. Out: `Facts`. What the files do not say is None, never a guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fromscratch.foundation.accelerators import accelerator_of
from fromscratch.report.record import Event, FloatArray, RunRecord, Table, number

State = Literal["finished", "stopped", "running", "unknown"]
_STATES: Mapping[str, State] = {
    "started": "running",
    "resumed": "running",
    "stopped": "stopped",
    "finished": "finished",
}


@dataclass(frozen=True)
class Validation:
    """One measurement on held-out text.

    Attributes:
        step: After how many updates.
        loss: Nats per token; None if it was not recorded or not finite.
        ppl: Perplexity.
        bpb: Bits per byte of text.
        tokens: On how many held-out targets.
    """

    step: int
    loss: float | None
    ppl: float | None
    bpb: float | None
    tokens: float | None


@dataclass(frozen=True)
class Facts:
    """The headline of a run.

    Attributes:
        state: How its last session ended; `unknown` without events.
        step: The last step that anything tells of.
        planned_steps: The steps it was meant to take.
        recipe: The recipe's name.
        parameters: Trained numbers in the model.
        tokens: Trained on so far.
        seconds: Of training, over all sessions.
        tokens_per_s: Median over the logged steps.
        mfu: The same of the model FLOPs utilisation.
        peak_from: Where the peak that it is a share of comes from.
        validation_set: The set that the headline speaks of.
        last: Its last validation.
        best: Its validation of the lowest loss.
        clipped: Fraction of logged steps with a clipped gradient.
        clip: The norm at which gradients are clipped.
        began: When it was started.
        ended: When its last event was written.
        device: What it was trained on, as its driver reports it.
        devices: How many of them.
        price: Dollars an hour of one of them, rented; None where no list has it.
        accuracy: Of preferences: share of the held-out pairs told apart at the last validation.
        margin: Likewise, by how much.
    """

    state: State
    step: int
    planned_steps: int | None
    recipe: str | None
    parameters: int | None
    tokens: float | None
    seconds: float | None
    tokens_per_s: float | None
    mfu: float | None
    peak_from: str | None
    validation_set: str | None
    last: Validation | None
    best: Validation | None
    clipped: float | None
    clip: float | None
    began: str
    ended: str
    device: str | None = None
    devices: int = 1
    price: float | None = None
    accuracy: float | None = None
    margin: float | None = None

    @property
    def device_hours(self) -> float | None:
        """Hours of training times devices."""
        return None if self.seconds is None else self.seconds / 3600 * self.devices


def gather(record: RunRecord) -> Facts:
    """Works the facts out of a record."""
    training = record.training
    tables = (training, *record.validation.values())
    name = headline_set(record)
    validations = validations_of(record.validation[name]) if name is not None else ()
    measured = [v for v in validations if v.loss is not None]
    clip = _number_at(record.recipe, "optim", "clip")
    device = started_with(record.events, "device")
    card = accelerator_of(device[:200]) if isinstance(device, str) else None
    ranks = _number_at(started_with(record.events, "ranks"))
    state: State = "unknown"
    for event in record.events:
        state = _STATES.get(event.kind, state)
    return Facts(
        state=state,
        step=_last_step(record, tables),
        planned_steps=_planned(record),
        recipe=_recipe_name(record),
        parameters=_parameters(record.events),
        tokens=_largest(tables, "tokens"),
        seconds=_largest(tables, "seconds"),
        tokens_per_s=_median(training.column("tokens_per_s")),
        mfu=_median(training.column("mfu")),
        peak_from=_peak_from(record.events),
        validation_set=name,
        last=validations[-1] if validations else None,
        best=min(measured, key=lambda v: v.loss or 0.0, default=None),
        clipped=_clipped(training, clip),
        clip=clip,
        began=next((e.time for e in record.events if e.kind == "started"), ""),
        ended=record.events[-1].time if record.events else "",
        device=device if isinstance(device, str) else None,
        devices=int(min(max(ranks or 1, 1), 1e6)),
        price=card.price if card is not None else None,
        accuracy=_last_number(record, name, "val_accuracy"),
        margin=_last_number(record, name, "val_margin"),
    )


def _last_number(record: RunRecord, validation_set: str | None, column: str) -> float | None:
    """The last finite value of a column of a validation set; None without one."""
    if validation_set is None:
        return None
    values = record.validation[validation_set].column(column)
    finite = values[np.isfinite(values)]
    return float(finite[-1]) if len(finite) else None


def headline_set(record: RunRecord) -> str | None:
    """The validation set that the headline speaks of: the run's own, else the first."""
    if "validation" in record.validation:
        return "validation"
    return next(iter(record.validation), None)


def validations_of(table: Table) -> tuple[Validation, ...]:
    """The rows of a validation set by ascending step."""
    columns = [table.column(name) for name in ("val_loss", "val_ppl", "val_bpb", "val_tokens")]
    return tuple(
        Validation(int(step), *(float(v) if np.isfinite(v) else None for v in values))
        for step, *values in zip(table.step, *columns, strict=True)
    )


def started_with(events: tuple[Event, ...], key: str) -> object:
    """The latest value of `key` that a start or resume of the run recorded."""
    found = None
    for event in events:
        if event.kind in ("started", "resumed") and event.extra.get(key) is not None:
            found = event.extra[key]
    return found


def _last_step(record: RunRecord, tables: tuple[Table, ...]) -> int:
    steps = [int(table.step[-1]) for table in tables if len(table)]
    steps += [event.step for event in record.events[-1:] if event.step is not None]
    return max(steps, default=0)


def _planned(record: RunRecord) -> int | None:
    resolved = started_with(record.events, "resolved")
    candidates = [
        _number_at(resolved, "steps"),
        _number_at(resolved, "train", "steps"),
        _number_at(record.recipe, "train", "steps"),
    ]
    return next((int(c) for c in candidates if c is not None and c > 0), None)


def _recipe_name(record: RunRecord) -> str | None:
    candidates: list[object] = [record.recipe.get("name"), record.recipe.get("recipe")]
    candidates.append(started_with(record.events, "recipe"))
    for value in candidates:
        if isinstance(value, Mapping):
            value = value.get("name")
        if isinstance(value, str) and value.strip():
            return value
    return None


def _parameters(events: tuple[Event, ...]) -> int | None:
    recorded = started_with(events, "parameters")
    total = _number_at(recorded, "total") if isinstance(recorded, Mapping) else _number_at(recorded)
    return int(total) if total is not None else None


def _peak_from(events: tuple[Event, ...]) -> str | None:
    peak = started_with(events, "peak")
    said = peak.get("from") if isinstance(peak, Mapping) else None
    return said if isinstance(said, str) else None


def _number_at(value: object, *keys: str) -> float | None:
    """The finite number under nested keys, None if there is none."""
    for key in keys:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    found = None if isinstance(value, bool) else number(value)
    return found if found is not None and np.isfinite(found) else None


def _largest(tables: tuple[Table, ...], column: str) -> float | None:
    """The largest finite value; right for a clock that runs backwards too."""
    finite = [values[np.isfinite(values)] for values in (t.column(column) for t in tables)]
    every = np.concatenate(finite)
    return float(every.max()) if len(every) else None


def _median(values: FloatArray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else None


def _clipped(training: Table, clip: float | None) -> float | None:
    flags = training.column("clipped")
    known = np.isfinite(flags)
    if known.any():
        return float(np.mean(flags[known] > 0))
    norms = training.column("grad_norm")
    known = np.isfinite(norms)
    if clip is None or clip <= 0 or not known.any():
        return None
    return float(np.mean(norms[known] > clip))
