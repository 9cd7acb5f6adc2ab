"""How evaluations are printed: for a person as tables and sentences, for a program as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from fromscratch.cli.show import say, size, table
from fromscratch.evaluate.comparing import different_settings, why_nats_do_not_compare
from fromscratch.evaluate.records import EvalRecord, EvaluatedData, EvaluatedModel, Metric

_LOSS_COLUMNS = ["tokens", "nats/token", "±", "perplexity", "bits/byte", "±"]


@dataclass(frozen=True)
class Difference:
    """How far a model is from the first one, on the same documents.

    Attributes:
        model: Its name.
        first: The name of the one it is held against.
        bits_per_byte: Its own less the first one's, and the standard error of that.
    """

    model: str
    first: str
    bits_per_byte: Metric

    def __str__(self) -> str:
        """The difference as a sentence."""
        value, stderr = self.bits_per_byte.value, self.bits_per_byte.stderr
        sign = "more" if value > 0 else "fewer"
        said = f"{self.model} spends {_number(abs(value), stderr)} bits per byte {sign} than "
        said += f"{self.first} on the same {self.bits_per_byte.n:,} documents"
        if stderr is not None and abs(value) < 2 * stderr:
            return f"{said}: less than these documents can tell."
        return f"{said}."


def print_evaluation(records: Sequence[EvalRecord], differences: Sequence[Difference] = ()) -> None:
    """Prints what was measured: losses as one table, every other kind as a table of its own."""
    losses = [record for record in records if record.kind == "loss"]
    if losses:
        print_losses(losses, differences)
    others = [record for record in records if record.kind != "loss"]
    for _, of_kind in groupby(sorted(others, key=lambda r: r.kind), key=lambda r: r.kind):
        if losses:
            say()
        print_tasks(list(of_kind))


def print_losses(records: Sequence[EvalRecord], differences: Sequence[Difference] = ()) -> None:
    """The losses of one or more models on one or more texts, and what may be compared."""
    models = list(dict.fromkeys(record.model.name for record in records))
    names = list(dict.fromkeys(record.data.name for record in records))
    for name in models:
        _say_model(next(r.model for r in records if r.model.name == name))
    for name in names:
        _say_text(next(r.data for r in records if r.data.name == name))
    say()
    labels = ["text"] if len(models) == 1 else ["model"] if len(names) == 1 else ["text", "model"]
    rows = []
    # Texts together, so that what compares stands side by side.
    for record in sorted(records, key=lambda r: names.index(r.data.name)):
        label = {"model": record.model.name, "text": record.data.name}
        rows.append([*(label[name] for name in labels), *_loss_cells(record)])
    table([*labels, *_LOSS_COLUMNS], rows)
    say()
    if any(metric.stderr is not None for r in records for metric in r.metrics.values()):
        say("± is one standard error, by document.")
    if any(r.data.n_documents == 1 for r in records):
        say("One document has no standard error; --documents passage makes many of a long text.")
    compared = [record for record in records if "pooled" not in record.settings]
    if len(compared) > 1:
        for sentence in why_nats_do_not_compare(compared):
            say(sentence)
        for setting in different_settings(compared):
            values = ", ".join(
                dict.fromkeys(f"{r.model.name}: {r.settings.get(setting)}" for r in compared)
            )
            say(f"The rows were measured with different {setting} ({values}).")
    for difference in differences:
        say(str(difference))


def _loss_cells(record: EvalRecord) -> list[str]:
    cells = [f"{record.settings.get('n_tokens', 0):,}"]
    for name in ("loss", "perplexity", "bits_per_byte"):
        metric = record.metrics[name]
        cells.append(_number(metric.value, None, digits=2 if name == "perplexity" else 4))
        if name != "perplexity":  # whose error follows from that of the loss
            cells.append("" if metric.stderr is None else _number(metric.stderr, None))
    return cells


def print_tasks(records: Sequence[EvalRecord]) -> None:
    """Scores on tasks: each metric with its error, the number of items and what is published."""
    models = list(dict.fromkeys(record.model.name for record in records))
    for name in models:
        _say_model(next(r.model for r in records if r.model.name == name))
    say()
    rows = []
    for record in records:
        for name, metric in record.metrics.items():
            published = ", ".join(f"{who} {value:.4g}" for who, value in metric.reference.items())
            count = "" if metric.n is None else f"{metric.n:,}"
            cells = [record.data.name, name, _metric(metric), count, published]
            rows.append([record.model.name, *cells] if len(models) > 1 else cells)
    columns = ["task", "metric", "value", "items", "published"]
    table(["model", *columns] if len(models) > 1 else columns, rows)


def as_json(
    records: Sequence[EvalRecord], differences: Sequence[Difference] = ()
) -> dict[str, Any]:
    """What was measured, for a program."""
    return {
        "records": [record.row() for record in records],
        "differences": [
            {
                "model": d.model,
                "first": d.first,
                "bits_per_byte": d.bits_per_byte.value,
                "stderr": d.bits_per_byte.stderr,
                "n_documents": d.bits_per_byte.n,
            }
            for d in differences
        ],
    }


def _say_model(model: EvaluatedModel) -> None:
    step = "" if model.step is None else f", step {model.step:,}"
    count = "" if model.parameters is None else f"{model.parameters:,} parameters, "
    say(f"{model.name}: {count}weights {model.sha256[:16]}{step}")


def _say_text(data: EvaluatedData) -> None:
    documents = "" if data.n_documents is None else _counted(data.n_documents, "document")
    n_bytes = "" if data.n_bytes is None else f"{size(data.n_bytes)}, "
    say(f"{data.name}: {documents}{n_bytes}sha256 {data.sha256[:16]}")


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}, "


def _metric(metric: Metric, *, digits: int = 4) -> str:
    return _number(metric.value, metric.stderr, digits=digits)


def _number(value: float, stderr: float | None, *, digits: int = 4) -> str:
    if value and abs(value) < 10**-digits:
        digits += 4
    error = "" if stderr is None else f" ± {stderr:,.{digits}f}"
    return f"{value:,.{digits}f}{error}"
