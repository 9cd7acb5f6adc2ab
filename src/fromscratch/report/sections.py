"""The parts of the page that are not pictures: heading, figures, words, tables, foot."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping

from fromscratch import __version__
from fromscratch.foundation.names import RUN_EVENTS
from fromscratch.report.charts import is_this_model, loss_of
from fromscratch.report.facts import Facts, validations_of
from fromscratch.report.markup import Html, tag
from fromscratch.report.numerals import count, duration, percent, significant
from fromscratch.report.record import Event, Problem, RunRecord, Yardstick
from fromscratch.report.samples import pick
from fromscratch.report.words import sentences

# Written at every checkpoint, validation or now and then in fp16: they would bury what matters.
_ROUTINE = {"checkpoint", "best", "yardsticks", "overflow"}
_TROUBLE = ("skip", "corrupt", "error", "fail", "crash", "rolled_back")
# What an event is called when it is counted; others go by their own name.
_NOUNS = {
    "resumed": "resume",
    "stopped": "stop",
    "checkpoint": "checkpoint",
    "skipped_step": "skipped step",
    "rolled_back": "rollback",
    "checkpoint_corrupt": "corrupt checkpoint",
}
_EVENTS = 60
_VALIDATIONS = 40
_VALUE = 300
_ENTRIES = 60


def heading(record: RunRecord, facts: Facts) -> Html:
    """Name, recipe and state of the run."""
    state = {
        "finished": "finished",
        "stopped": f"stopped at step {count(facts.step)}",
        "running": f"running, step {count(facts.step)}",
        "unknown": f"no record of its end, step {count(facts.step)}",
    }[facts.state]
    if facts.planned_steps is not None and facts.state != "finished":
        state += f" of {count(facts.planned_steps)}"
    about = [tag("span", state, class_=f"state {facts.state}")]
    if facts.recipe is not None:
        about.append(tag("span", "recipe ", tag("b", facts.recipe)))
    if facts.began:
        about.append(tag("span", f"started {_moment(facts.began)}"))
    return tag(
        "header",
        tag("p", "training report", class_="kind"),
        tag("h1", record.name),
        tag("p", *join_with_space(about), class_="about"),
    )


def figures(facts: Facts) -> Html:
    """The headline: how good, how large, how long, how fast."""
    last, best = facts.last, facts.best
    tiles = []
    if last is not None:
        on = "held-out text" if last.tokens is None else f"{count(last.tokens)} held-out tokens"
        below = f"on {on}, step {count(last.step)}"
        if best is not None and best.step != last.step and best.bpb is not None:
            below = f"best {significant(best.bpb)} at step {count(best.step)}"
        pairs = facts.accuracy is not None
        if pairs:
            told = f"of the held-out pairs told apart, step {count(last.step)}"
            tiles += [
                _tile("preference accuracy", facts.accuracy, percent, told, main=True),
                _tile("reward margin", facts.margin, significant, "held-out"),
                _tile("loss", last.loss, significant, "held-out, nats/pair"),
            ]
        below = "of the chosen answers, held-out" if pairs else below
        tiles.append(_tile("bits per byte", last.bpb, significant, below, main=not pairs))
        if not pairs:
            tiles += [
                _tile("perplexity", last.ppl, significant, "held-out"),
                _tile("loss", last.loss, significant, "held-out, nats/token"),
            ]
    tiles += [
        _tile("parameters", facts.parameters, count),
        _tile("tokens trained", facts.tokens, count),
        _tile("training time", facts.seconds, duration),
        _tile("tokens/s", facts.tokens_per_s, count, "median"),
    ]
    shown = [tile for tile in tiles if tile]
    return tag("dl", *shown, class_="figures") if shown else Html()


def words(record: RunRecord, facts: Facts) -> Html:
    """What the curves show."""
    said = [tag("p", sentence) for sentence in sentences(record, facts)]
    return tag("section", *said, class_="words", aria_label="What the curves show")


def yardsticks(rows: tuple[Yardstick, ...]) -> Html:
    """Bits per byte by other means and by this model, as a table with bars."""
    if not rows:
        return Html()
    longest = max(row.bpb for row in rows) or 1.0
    body = [
        tag(
            "tr",
            tag("th", row.name, scope="row"),
            tag("td", significant(row.bpb), class_="number"),
            tag("td", _bar(row.bpb / longest), class_="bar"),
            class_="own" if is_this_model(row.name) else None,
        )
        for row in rows
    ]
    head = tag(
        "tr",
        tag("th", "Method", scope="col"),
        tag("th", "Bits per byte", scope="col", class_="number"),
        tag("th", tag("span", "As a bar", class_="unseen"), scope="col"),
    )
    note = "All of the held-out text, packed or predicted by other means. Lower is better."
    return tag(
        "section",
        tag("h2", "Against yardsticks"),
        tag("p", note, class_="note"),
        tag("table", tag("thead", head), tag("tbody", *body), class_="yardsticks"),
        id="yardsticks",
    )


def validations(record: RunRecord) -> Html:
    """The numbers behind the validation curves, folded."""
    parts = []
    for name, table in record.validation.items():
        rows = validations_of(table)
        chosen = pick(len(rows), _VALIDATIONS)
        head = tag("tr", *(tag("th", h, scope="col") for h in _VALIDATION_HEADS))
        body = [
            tag(
                "tr",
                tag("th", count(rows[i].step), scope="row"),
                *(tag("td", loss_of(v)) for v in (rows[i].loss, rows[i].ppl, rows[i].bpb)),
            )
            for i in chosen
        ]
        caption = name if len(chosen) == len(rows) else f"{name}: {len(chosen)} of {len(rows)}"
        grid = tag("table", tag("caption", caption), tag("thead", head), tag("tbody", *body))
        parts.append(tag("div", grid, class_="scroll numbers"))
    if not parts:
        return Html()
    return tag("details", tag("summary", "Validations as a table"), *parts, id="validations")


_VALIDATION_HEADS = ("Step", "Loss", "Perplexity", "Bits per byte")


def events(happened: tuple[Event, ...]) -> Html:
    """Starts, stops and troubles; routine events are counted only."""
    if not happened:
        return Html()
    listed = [event for event in happened if event.kind not in _ROUTINE]
    head = tag("tr", *(tag("th", h, scope="col") for h in ("Time", "Step", "Event", "Details")))
    first, rest = listed[: _EVENTS // 2], listed[_EVENTS // 2 :]
    last = rest[-_EVENTS // 2 :]
    body = [_event(event) for event in first]
    if len(rest) > len(last):
        gap = f"{count(len(rest) - len(last))} more in {RUN_EVENTS}"
        body.append(tag("tr", tag("td", gap, colspan="4", class_="note")))
    body += [_event(event) for event in last]
    counts = Counter(event.kind for event in happened)
    told = ", ".join(
        f"{count(n)} {_NOUNS[kind]}{'s' if n > 1 else ''}"
        if kind in _NOUNS
        else f"{count(n)} \u00d7 {kind.replace('_', ' ')}"
        for kind, n in counts.items()
        if kind not in ("started", "finished", "best", "yardsticks")
    )
    grid = tag("table", tag("thead", head), tag("tbody", *body), class_="events")
    return tag(
        "section",
        tag("h2", "Events"),
        tag("p", told[:_VALUE] + ".", class_="note") if told else Html(),
        tag("div", grid, class_="scroll") if listed else Html(),
        id="events",
    )


def environment(happened: tuple[Event, ...]) -> Html:
    """What the run's start recorded about the machine, the software, the data and the model."""
    told: dict[str, object] = {}
    for event in happened:
        if event.kind in ("started", "resumed"):
            told.update(event.extra)
    groups: dict[str, list[tuple[str, str]]] = {}
    for key, value in told.items():
        inner = isinstance(value, Mapping)
        group = groups.setdefault(key if inner else "machine", [])
        group += _flat(value, "" if inner else key)
    parts = []
    for name, entries in groups.items():
        pairs = [tag("div", tag("dt", k), tag("dd", v[:_VALUE])) for k, v in entries[:_ENTRIES]]
        if pairs:
            title = tag("h3", name.replace("_", " ").capitalize())
            parts.append(tag("div", title, tag("dl", *pairs, class_="pairs")))
    if not parts:
        return Html()
    return tag(
        "section",
        tag("h2", "Environment"),
        tag("div", *parts, class_="environment"),
        id="environment",
    )


def cost(facts: Facts, *, price: float | None = None, watts: float | None = None) -> Html:
    """What the run cost and used, as far as it is known; empty if nothing is.

    Args:
        facts: Of the run.
        price: Dollars an hour and device; None for the list price of a known card.
        watts: Power of a device while it trains; None if unknown.
    """
    hours = facts.device_hours
    if hours is None:
        return Html()
    pairs = []
    rate = facts.price if price is None else price
    if rate is not None:
        whence = "as given" if price is not None else f"list price of {facts.device}"
        pairs.append(("Cost", f"${hours * rate:,.2f} at ${rate:g} an hour and device ({whence})"))
    if watts is not None:
        energy = hours * watts / 1000
        pairs.append(("Energy", f"{significant(energy, 3)} kWh at {watts:g} W a device"))
    if not pairs:
        return Html()
    pairs.insert(0, ("Device hours", f"{significant(hours, 3)} ({count(facts.devices)} devices)"))
    rows = [tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs]
    return tag("section", tag("h2", "Cost"), tag("dl", *rows, class_="pairs narrow"), id="cost")


def unread(problems: Iterable[tuple[str, Problem]]) -> Html:
    """What could not be read: the run, empty where there is one only, and the problem."""
    items = [
        tag("li", f"{run}: " if run else "", tag("code", p.file), ": ", _problem(p))
        for run, p in problems
    ]
    said = tag("ul", *items)
    if not items:
        said = tag("p", "Nothing: every line of every file was read.")
    return tag("section", tag("h2", "What could not be read"), said, id="unread")


def foot() -> Html:
    """What made the page."""
    made = f"Made by fromscratch {__version__} from the files of the run folder alone."
    return tag("footer", tag("p", made))


def join_with_space(parts: Iterable[Html]) -> list[str]:
    """Parts with a space after each, so that inline elements may wrap."""
    return [text for part in parts for text in (part, " ")]


def _tile(
    name: str,
    value: float | None,
    write: object,
    below: str = "",
    *,
    main: bool = False,
) -> Html:
    if value is None or not callable(write):
        return Html()
    parts = [tag("dt", name), tag("dd", str(write(value)))]
    if below:
        parts.append(tag("dd", below, class_="below"))
    return tag("div", *parts, class_="main" if main else None)


def _bar(fraction: float) -> Html:
    return tag("i", style=f"width:{100 * fraction:.1f}%", aria_hidden="true")


def _event(event: Event) -> Html:
    trouble = any(word in event.kind for word in _TROUBLE)
    details = event.message or ", ".join(
        f"{key} {_value(value)}"
        for key, value in event.extra.items()
        if value is not None and not isinstance(value, (dict, list))
    )
    return tag(
        "tr",
        tag("td", _moment(event.time), class_="time"),
        tag("td", _place(event.step), class_="number"),
        tag("td", event.kind.replace("_", " ")),
        tag("td", details[:_VALUE]),
        class_="trouble" if trouble else None,
    )


def _place(step: int | None) -> Html:
    """The step, as a link to it on the charts."""
    if step is None:
        return Html()
    return tag("a", count(step), href="#loss", data_step=str(step))


def _moment(time: str) -> str:
    """An ISO 8601 time without its fractions; anything else as it is."""
    day, separator, clock = time.partition("T")
    if not separator or len(day) != 10:
        return time[:40]
    utc = time.endswith(("Z", "+00:00"))
    return f"{day} {clock[:8].rstrip('Z')}" + (" UTC" if utc else "")


def _value(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "\u2013"}[value]
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 10**18 else str(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value)


def _flat(value: object, prefix: str) -> list[tuple[str, str]]:
    """Nested mappings as dotted names."""
    if not isinstance(value, Mapping):
        return [(prefix.replace("_", " "), _value(value))]
    found = []
    for key, inner in value.items():
        found += _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    return found


def _problem(problem: Problem) -> str:
    if not problem.lines:
        return problem.what
    lines = ", ".join(f"{line:,}" for line in problem.lines)
    if problem.count == 1:
        return f"{problem.what} (line {lines})"
    more = ", \u2026" if problem.count > len(problem.lines) else ""
    return f"{problem.what} ({problem.count:,} lines: {lines}{more})"
