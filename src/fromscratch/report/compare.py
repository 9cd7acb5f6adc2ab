"""Several runs at equal tokens and at equal hours: who is better, and whether that can be said.

In: the runs. Out: `Verdict`s with every run's loss or bits per byte at the same point. What always
holds: a value lies between two validations of its run, never beyond them; and no order is given
where the numbers are not about the same thing (R44): losses in nats per token compare only under
one tokenizer and on one text, bits per byte on one text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fromscratch.report import series
from fromscratch.report.facts import started_with
from fromscratch.report.record import FloatArray, number
from fromscratch.report.shown import Shown

Measure = Literal["val_loss", "val_bpb"]
Axis = Literal["tokens", "hours"]


@dataclass(frozen=True)
class Common:
    """What the runs' numbers have in common.

    Attributes:
        measure: The number that may be compared; None if none may.
        why: In a sentence or two, what is the same and what is not.
    """

    measure: Measure | None
    why: str


@dataclass(frozen=True)
class Verdict:
    """The runs at one point of an axis.

    Attributes:
        axis: Of what they have had equally much.
        at: How much; None if there is no point that all of them have passed.
        values: By label, the best first where they may be compared.
        ranked: Whether the order says anything.
        measure: What the values are.
        why: Why there is no point, or no order; empty otherwise.
    """

    axis: Axis
    at: float | None
    values: tuple[tuple[str, float], ...]
    ranked: bool
    measure: Measure
    why: str = ""


def common(runs: Sequence[Shown]) -> Common:
    """Whether the runs' validations are about the same thing."""
    told = [_data_of(run) for run in runs]
    sizes = [_held_out_tokens(run) for run in runs]
    if any(run.facts.validation_set is None for run in runs):
        without = ", ".join(r.label for r in runs if r.facts.validation_set is None)
        return Common(None, f"No validation was recorded of {without}.")
    prints = [data.get("fingerprint") for data in told]
    if all(isinstance(p, str) and p for p in prints) and len(set(map(str, prints))) == 1:
        if len(set(sizes)) == 1:
            return Common("val_loss", "Same tokenizer, same held-out text.")
        return Common(
            None,
            "The same prepared data, but validated on different amounts of it "
            f"({_list(runs, sizes)} held-out tokens): give them the same eval.tokens to compare.",
        )
    texts = [(data.get("val_bytes"), data.get("sources")) for data in told]
    known = all(number(size) and sources for size, sources in texts)
    if not known:
        return Common(
            None,
            "Not every run tells which text it was validated on and with which tokenizer, so the "
            "losses stand side by side without an order.",
        )
    same_text = all(_same(text, texts[0]) for text in texts[1:])
    whole = all(
        size is not None and (n := number(data.get("val_tokens"))) and size >= 0.98 * n
        for size, data in zip(sizes, told, strict=True)
    )
    if same_text and whole:
        return Common(
            "val_bpb",
            "The prepared data differ, but the held-out text has the same sources and the same "
            "number of bytes: compared in bits per byte. Losses in nats per token do not compare "
            "across tokenizers, because a token of one is more text than a token of another.",
        )
    if same_text:
        return Common(
            None,
            "The tokenizers differ and only a part of the held-out text was validated on, which is "
            "not the same text under each: nats per token do not compare across tokenizers, and "
            "bits per byte only on the same text. Measure both with `fromscratch eval`.",
        )
    return Common(
        None,
        "The runs were validated on different texts, so neither nats nor bits per byte say which "
        "is better. Measure both on one text with `fromscratch eval`.",
    )


def verdicts(runs: Sequence[Shown]) -> tuple[Verdict, ...]:
    """The runs at equal tokens and at equal hours."""
    found = common(runs)
    axes: tuple[Axis, ...] = ("tokens", "hours")
    return tuple(_verdict(runs, axis, found) for axis in axes)


def _verdict(runs: Sequence[Shown], axis: Axis, found: Common) -> Verdict:
    measure = found.measure or "val_bpb"
    curves = [_curve(run, axis, measure) for run in runs]
    if found.measure is None and any(curve is None for curve in curves):
        measure = "val_loss"
        curves = [_curve(run, axis, measure) for run in runs]
    known = [curve for curve in curves if curve is not None]
    if len(known) < len(runs):
        without = ", ".join(r.label for r, c in zip(runs, curves, strict=True) if c is None)
        return Verdict(axis, None, (), False, measure, f"Not known against {axis}: {without}.")
    first = max(float(x[0]) for x, _ in known)
    at = min(float(x[-1]) for x, _ in known)
    if at < first or at <= 0:
        why = f"There is no number of {axis} at which all of them had been validated."
        return Verdict(axis, None, (), False, measure, why)
    values = [
        (run.label, float(np.interp(at, x, y))) for run, (x, y) in zip(runs, known, strict=True)
    ]
    ranked = found.measure is not None
    if ranked:
        values.sort(key=lambda item: item[1])
    return Verdict(axis, at, tuple(values), ranked, measure)


def _curve(run: Shown, axis: Axis, measure: Measure) -> tuple[FloatArray, FloatArray] | None:
    """The measured points of a run's main validation set on an axis; None if there are none."""
    name = run.facts.validation_set
    if name is None:
        return None
    table = run.record.validation[name]
    course = run.clock.course(table)
    x = course.tokens if axis == "tokens" else course.hours
    y = table.column(measure)
    ok = series.drawable(y)
    return None if x is None or not ok.any() else (x[ok], y[ok])


def _data_of(run: Shown) -> Mapping[str, object]:
    found = started_with(run.record.events, "data")
    return found if isinstance(found, Mapping) else {}


def _held_out_tokens(run: Shown) -> float | None:
    """On how many targets the run was validated, as its last row says."""
    return None if run.facts.last is None else run.facts.last.tokens


def _same(one: tuple[object, object], other: tuple[object, object]) -> bool:
    return one[0] == other[0] and repr(one[1]) == repr(other[1])


def _list(runs: Sequence[Shown], sizes: Sequence[float | None]) -> str:
    return ", ".join(
        f"{run.label}: {'unknown' if size is None else f'{size:,.0f}'}"
        for run, size in zip(runs, sizes, strict=True)
    )
