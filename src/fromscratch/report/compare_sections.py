"""The parts of a page about several runs that a page about one does not have."""

from __future__ import annotations

from collections.abc import Sequence

from fromscratch.report.chart import COLOURS
from fromscratch.report.compare import Verdict, common, verdicts
from fromscratch.report.markup import Html, join, tag
from fromscratch.report.numerals import count, duration, percent, short, significant
from fromscratch.report.shown import Shown

# Runs that differ by less than this may well change places with another seed.
_CLOSE = 0.003
_MEASURES = {"val_loss": "nats per token", "val_bpb": "bits per byte"}


def heading(runs: Sequence[Shown]) -> Html:
    """What the page compares."""
    names = " \u00b7 ".join(run.label for run in runs)
    return tag(
        "header",
        tag("p", f"training report, {count(len(runs))} runs", class_="kind"),
        tag("h1", names if len(names) < 90 else f"{count(len(runs))} runs"),
    )


def verdict(runs: Sequence[Shown]) -> Html:
    """Who is better at equal tokens and at equal hours, or why that cannot be said."""
    found = common(runs)
    parts = [tag("p", found.why)]
    for each in verdicts(runs):
        parts.append(_table(each) if each.at is not None else tag("p", each.why, class_="note"))
    return tag(
        "section", tag("h2", "Verdict"), parts[0], tag("div", *parts[1:], class_="verdicts"),
        id="verdict",
    )  # fmt: skip


def words(found: Verdict) -> str:
    """A verdict in a sentence."""
    if found.at is None:
        return found.why
    where = f"after {short(found.at)} tokens each"
    if found.axis == "hours":
        where = f"after {duration(3600 * found.at)} of training each"
    if not found.ranked:
        return f"No order {where}: the numbers are not about the same thing."
    (best, value), (second, other) = found.values[0], found.values[1]
    gap = (other - value) / abs(value) if value else 0.0
    if gap < _CLOSE:
        return (
            f"{best} and {second} are practically equal {where} ({percent(gap)} apart): another "
            "seed may turn them round."
        )
    return f"{best} is ahead {where}, {percent(gap)} better than {second}."


def _table(found: Verdict) -> Html:
    body = [
        tag("tr", tag("th", label, scope="row"), tag("td", significant(value), class_="number"))
        for label, value in found.values
    ]
    head = tag(
        "tr",
        tag("th", "Run", scope="col"),
        tag("th", f"Held-out {_MEASURES[found.measure]}", scope="col", class_="number"),
    )
    title = "At equal tokens" if found.axis == "tokens" else "At equal hours"
    grid = tag("table", tag("thead", head), tag("tbody", *body))
    return tag("div", tag("h3", title), tag("p", words(found)), grid)


def overview(runs: Sequence[Shown]) -> Html:
    """The figures of each run beside each other, with the colour it has on the charts."""
    heads = (
        "Run", "State", "Parameters", "Tokens", "Time", "Tokens/s", "Step",
        "Loss", "Perplexity", "Bits per byte", "Best loss",
    )  # fmt: skip
    head = tag("tr", *(tag("th", h, scope="col") for h in heads))
    body = []
    for i, run in enumerate(runs):
        facts = run.facts
        last, best = facts.last, facts.best
        cells = [
            facts.state,
            _or_dash(facts.parameters, count),
            _or_dash(facts.tokens, short),
            _or_dash(facts.seconds, duration),
            _or_dash(facts.tokens_per_s, count),
            count(facts.step),
            _or_dash(last.loss if last else None, significant),
            _or_dash(last.ppl if last else None, significant),
            _or_dash(last.bpb if last else None, significant),
            _or_dash(best.loss if best else None, significant),
        ]
        swatch = tag("i", class_=f"key plain c{i % COLOURS}")
        body.append(
            tag(
                "tr",
                tag("th", join([swatch, run.label]), scope="row"),
                *(tag("td", cell) for cell in cells),
            )
        )
    grid = tag("table", tag("thead", head), tag("tbody", *body))
    return tag("section", tag("h2", "Runs"), tag("div", grid, class_="scroll numbers"), id="runs")


def _or_dash(value: float | None, write: object) -> str:
    return "\u2013" if value is None or not callable(write) else str(write(value))
