"""What the model wrote at the same prompt, step after step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fromscratch.report.facts import Facts, Validation, validations_of
from fromscratch.report.markup import Html, tag
from fromscratch.report.numerals import count, significant
from fromscratch.report.record import RunRecord, Sample
from fromscratch.report.shown import Shown

# A run of a week has thousands of samples; the page shows a way through them.
_PROMPTS = 8
_STEPS = 24
_CHARACTERS = 1500


def samples(record: RunRecord, facts: Facts) -> Html:
    """The timeline of each prompt; empty if there are no samples."""
    by_prompt: dict[str, list[Sample]] = {}
    for sample in record.samples:
        by_prompt.setdefault(sample.prompt, []).append(sample)
    if not by_prompt:
        return Html()
    name = facts.validation_set
    measured = validations_of(record.validation[name]) if name is not None else ()
    shown = list(by_prompt.items())[:_PROMPTS]
    parts = [
        _timeline(prompt, taken, measured, opened=i == 0) for i, (prompt, taken) in enumerate(shown)
    ]
    if len(by_prompt) > len(shown):
        more = f"{count(len(by_prompt) - len(shown))} more prompts are in samples.jsonl."
        parts.append(tag("p", more, class_="note"))
    return tag("section", tag("h2", "What it wrote"), *parts, id="samples")


def _timeline(
    prompt: str, taken: list[Sample], measured: tuple[Validation, ...], *, opened: bool
) -> Html:
    chosen = pick(len(taken), _STEPS)
    items = [_moment(taken[i], measured) for i in chosen]
    summary = tag("summary", tag("q", _cut(prompt, 200)) if prompt else "Without a prompt")
    parts = [tag("ol", *items, class_="timeline")]
    if len(chosen) < len(taken):
        text = f"{len(chosen)} of {count(len(taken))} samples; all are in samples.jsonl."
        parts.append(tag("p", text, class_="note"))
    return tag("details", summary, *parts, open=opened, class_="prompt")


def _moment(sample: Sample, measured: tuple[Validation, ...]) -> Html:
    loss = next((v.loss for v in reversed(measured) if v.step <= sample.step), None)
    label = [tag("strong", f"step {count(sample.step)}")]
    if loss is not None:
        label.append(tag("span", f"held-out loss {significant(loss, 3)}"))
    text = tag("b", _cut(sample.prompt, 400)), _cut(sample.text, _CHARACTERS)
    return tag("li", tag("div", *label, class_="when"), tag("pre", *text, dir="auto"))


def pick(n: int, at_most: int) -> list[int]:
    """Indices among n, first and last included, denser at the start, where a model changes most."""
    if n <= at_most:
        return list(range(n))
    spread = np.round(np.linspace(0.0, 1.0, at_most) ** 2 * (n - 1)).astype(int)
    return sorted(set(spread.tolist()))


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[:length] + " \u2026"


def last_samples(runs: Sequence[Shown]) -> Html:
    """What several runs wrote at the same prompts at last; empty if they share no prompt."""
    by_run = [{s.prompt: s for s in run.record.samples} for run in runs]
    shared = [p for p in by_run[0] if sum(p in samples for samples in by_run) > 1][:_PROMPTS]
    parts = []
    for i, prompt in enumerate(shared):
        items = [
            tag(
                "li",
                tag(
                    "div",
                    tag("strong", run.label),
                    tag("span", f"step {count(samples[prompt].step)}"),
                    class_="when",
                ),
                tag("pre", _cut(samples[prompt].text, _CHARACTERS), dir="auto"),
            )
            for run, samples in zip(runs, by_run, strict=True)
            if prompt in samples
        ]
        summary = tag("summary", tag("q", _cut(prompt, 200)) if prompt else "Without a prompt")
        parts.append(tag("details", summary, tag("ol", *items, class_="timeline"), open=i == 0))
    if not parts:
        return Html()
    return tag("section", tag("h2", "What they wrote at last"), *parts, id="samples")
