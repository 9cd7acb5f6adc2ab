"""`fromscratch bench`: how fast a recipe trains here, by micro-batch and precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from fromscratch.cli.show import err, print_json, print_warning, say, size, table
from fromscratch.cli.starting import completion_by
from fromscratch.cli.vocabulary import argument, option
from fromscratch.cli.vocabulary import overrides as said_overrides
from fromscratch.report.numerals import percent

if TYPE_CHECKING:
    from fromscratch.runs.bench import BenchResult, Validation
    from fromscratch.runs.trials import Trial


def run(
    recipe: str = argument("RECIPE"),
    overrides: list[str] = said_overrides(),
    start: str = option("from"),
    precision: str = option(
        "precision",
        "",
        of="which to try, e.g. fp32,bf16",
        metavar="NAMES",
        show_default="all that the device has",
    ),
    micro_batch: str = option(
        "micro-batch", "", show_default="until out of memory, or no longer faster"
    ),
    as_json: bool = option("json", False),
) -> None:
    """Measures tokens/s and memory of a recipe on this machine; needs no data. Ctrl-C ends it.

    What was measured is kept in runs/bench.json, where `plan` finds it.

    Example: fromscratch bench modern-124m --precision bf16
    """
    from fromscratch.runs.bench import bench
    from fromscratch.runs.measured import RESULTS, remember
    from fromscratch.runs.recipe_files import load_recipe

    resolved = load_recipe(recipe, overrides or [], complete=completion_by(start))
    with _progress() as watch:
        result = bench(
            resolved,
            precisions=_words(precision),
            micro_batches=_numbers(micro_batch),
            watch=watch,
        )
    try:
        remember(result.measured())
    except OSError as error:
        print_warning(f"{RESULTS} cannot be written: {error.strerror}")
    if as_json:
        print_json(result.to_json())
    else:
        _print(result)
    if not result.finished:
        raise typer.Exit(130)


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str) -> list[int]:
    from fromscratch.foundation.errors import UserError

    try:
        return [int(word) for word in _words(text)]
    except ValueError:
        raise UserError(
            f'--micro-batch "{text}" is not a list of whole numbers.',
            fix="Write for example --micro-batch 4,8,16.",
        ) from None


@contextmanager
def _progress() -> Iterator[Callable[[BenchResult, str], None]]:
    """On a terminal: what is being tried, and each row as it comes; elsewhere nothing."""
    if not err.is_terminal:
        yield lambda result, doing: None
        return
    shown = 0
    with err.status("starting") as status:

        def watch(result: BenchResult, doing: str) -> None:
            nonlocal shown
            for trial in result.trials[shown:]:
                err.print("  ".join(_row(trial, best=False)), markup=False)
            shown = len(result.trials)
            status.update(f"trying {doing}")

        yield watch


def _print(result: BenchResult) -> None:
    best = result.best()
    if result.trials:
        device = next((t.device for t in result.trials if t.device), "")
        say(f"{result.recipe.name} on {device}" if device else result.recipe.name)
        say()
        table(
            ["precision", "micro-batch", "tokens/s", "s/step", "memory", "MFU", ""],
            [_row(trial, best=trial is best) for trial in result.trials],
        )
    for precision, why in result.skipped:
        say(f"{precision}: {why}")
    if best is None:
        say("nothing was measured")
        return
    say()
    peak = "measured here with matrix products" if best.peak_measured else "of the data sheet"
    say(f"MFU is the share of the device's peak, which is {peak}.")
    if (validation := result.validation()) is not None:
        _print_validation(validation)
    say(f"use it: train.micro_batch={best.micro_batch} train.precision={best.precision}")
    if not result.finished:
        say("interrupted: there may be better ones")


def _row(trial: Trial, *, best: bool) -> list[str]:
    start = [trial.precision, str(trial.micro_batch)]
    if trial.problem is not None:
        why = "out of memory" if trial.out_of_memory else "failed"
        return [*start, "", "", "", "", f"{why}: {trial.problem}"]
    return [
        *start,
        f"{trial.tokens_per_s:,.0f}",
        f"{trial.step_seconds:.3g}",
        size(trial.peak_bytes),
        percent(trial.mfu),
        "best" if best else "",
    ]


def _print_validation(validation: Validation) -> None:
    say(
        f"validation: {validation.tokens_per_s:,.0f} tokens/s. Up to "
        f"{validation.affordable_tokens:,} tokens "
        + (
            "at the start and the end"
            if validation.every is None
            else f"every {validation.every:,} steps"
        )
        + " cost at most 5% of the run."
    )
    if validation.recipe_share is not None:
        say(
            f"The recipe's eval.tokens={validation.recipe_tokens} costs "
            f"{percent(validation.recipe_share)}."
        )
