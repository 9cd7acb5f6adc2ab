"""`fromscratch sweep`: many small runs that answer how to set something."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from fromscratch.cli.documents_progress import documents_progress
from fromscratch.cli.show import err, print_json, print_warning, say, table
from fromscratch.cli.starting import completion_by
from fromscratch.cli.vocabulary import argument, option
from fromscratch.cli.vocabulary import overrides as said_overrides
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import write_atomically
from fromscratch.foundation.names import SWEEP_PICTURE
from fromscratch.report.numerals import duration, short

if TYPE_CHECKING:
    from fromscratch.runs.sweep_study import Claim, SweepStudy, TrialResult, TrialRow


_SHORT = {"val_bpb": "bits/byte", "val_loss": "val loss"}


def run(
    recipe: str = argument("RECIPE", None),
    settings: list[str] = said_overrides(
        of="key=a,b,c is swept; key=value is for all; key=low:high:log is drawn from"
    ),
    start: str = option("from"),
    out: Path = option("out", of="the folder of the sweep", show_default="sweeps/RECIPE"),
    sampler: str = option("sampler", "grid"),
    trials: int = option("trials"),
    show: Path = option("show"),
    as_json: bool = option("json", False),
) -> None:
    """Trains a recipe with several values of some settings, and shows which did best.

    The same command, in several processes or on several machines that share the folder, shares the
    work; after a kill it goes on.

    Example: fromscratch sweep try optim.muon_lr=0.01,0.03,0.1 train.tokens=300000
    """
    if show is not None:
        if recipe is not None:
            raise UserError("--show trains nothing.", fix="Say --show FOLDER alone.")
        from fromscratch.runs.sweep_study import open_sweep

        _print(open_sweep(show), as_json)
        return
    if recipe is None:
        raise UserError(
            "There is nothing to sweep.",
            fix="Say for example: fromscratch sweep try optim.muon_lr=0.01,0.03,0.1",
        )
    from fromscratch.foundation.world import world_from_environment
    from fromscratch.runs.sweep_plan import plan_sweep

    if world_from_environment().size > 1:
        raise UserError(
            "torchrun starts processes that train one model together; a sweep's train one each.",
            fix="Start the sweep without torchrun, once for each device.",
        )
    plan = plan_sweep(
        recipe, settings or [], sampler=sampler, trials=trials, complete=completion_by(start)
    )
    from fromscratch.runs.sweep_study import open_sweep

    folder = out or Path("sweeps") / plan.name
    if plan.sampler == "grid":
        from fromscratch.runs.assemble import check_supported

        for values in plan.combinations():
            check_supported(plan.recipe(values))
    study = open_sweep(folder, plan)
    if not as_json:
        say(f"sweep {folder}: {plan.trials} trials")
    finished = _work(study)
    _print(study, as_json)
    if not finished:
        say("stopped")


def _work(study: SweepStudy) -> bool:
    from fromscratch.runs.session import Session
    from fromscratch.runs.sweep import work
    from fromscratch.track.console import ConsoleTracker
    from fromscratch.track.tracker import Tracker

    def listeners(session: Session) -> Sequence[Tracker]:
        # The line that moves is for a person; validations of many runs would only roll past.
        return [ConsoleTracker(err, steps=session.config.steps)] if err.is_terminal else []

    def begin(claim: Claim, begun: bool) -> None:
        err.print(f"trial {claim.number:>3}  {_said(claim.values)}{'  (goes on)' if begun else ''}")

    def end(claim: Claim, result: TrialResult | str) -> None:
        if isinstance(result, str):
            print_warning(f"trial {claim.number} ({_said(claim.values)}) failed: {result}")
        else:
            err.print(
                f"trial {claim.number:>3}  {result.value:.4f} {_SHORT[result.measure]} "
                f"in {duration(result.seconds)}"
            )

    with documents_progress() as progress:
        return work(study, report=progress, listeners=listeners, on_begin=begin, on_end=end)


def _print(study: SweepStudy, as_json: bool) -> None:
    rows = study.rows()
    picture = _draw(study, rows)
    if as_json:
        content = {"folder": str(study.folder), "value": study.plan.measure, **study.plan.to_json()}
        content["results"] = [asdict(row) for row in rows]
        print_json(content)
        return
    _print_table(list(study.plan.axes), rows, _SHORT[study.plan.measure])
    for row in rows:
        if row.reason is not None:
            print_warning(f"{row.run} failed: {row.reason}")
    say()
    _conclude(study, rows)
    if picture is not None:
        say(f"picture: {picture}")


def _print_table(keys: list[str], rows: list[TrialRow], measure: str) -> None:
    names = [key.rpartition(".")[2] for key in keys]
    names = [n if names.count(n) == 1 else key for n, key in zip(names, keys, strict=True)]
    results = [row.result for row in rows if row.result is not None]
    # Of what is the same for all, one word is enough; the table should fit into a terminal.
    tokens = sorted({result.tokens for result in results})
    lowest = any(result.lowest < result.value for result in results)
    columns = [*names, measure, *(["lowest"] if lowest else []), "steps", "time", "tokens/s"]
    if len(tokens) > 1:
        columns.append("tokens")
    cells = []
    for row in rows:
        if row.result is None:
            shown = [row.state]
        else:
            result = row.result
            shown = [f"{result.value:.4f}", *([f"{result.lowest:.4f}"] if lowest else [])]
            shown += [f"{result.steps:,}", duration(result.seconds), f"{result.tokens_per_s:,.0f}"]
            shown += [short(result.tokens)] if len(tokens) > 1 else []
        values = [row.values.get(key, "") for key in keys]
        shown += [""] * (len(columns) - len(values) - len(shown))
        cells.append([*values, *shown, row.run])
    table([*columns, "run"], cells)
    if len(tokens) == 1:
        say(f"each trained on {tokens[0]:,} tokens")


def _conclude(study: SweepStudy, rows: list[TrialRow]) -> None:
    from fromscratch.runs.sweep_results import edges

    done = [row for row in rows if row.result is not None]
    open_trials = [row.state for row in rows if row.state in ("waiting", "running", "stopped")]
    if done:
        say(f"best: {_said(done[0].values)}")
    for key, value, direction in edges(study.plan, done):
        print_warning(
            f"{key}={value} is the {direction} of its values: the best may lie beyond. "
            "Sweep further in a new folder."
        )
    if open_trials:
        told = ", ".join(f"{open_trials.count(s)} {s}" for s in dict.fromkeys(open_trials))
        say(f"not all is done: {told}; the sweep's own command goes on")
    elif done:
        say(f"how it went: fromscratch report {shlex.quote(str(study.folder / done[0].run))}")


def _draw(study: SweepStudy, rows: list[TrialRow]) -> Path | None:
    done = [row for row in rows if row.result is not None]
    if len(done) < 2:
        return None
    from fromscratch.report.sweep_picture import sweep_picture

    path = study.folder / SWEEP_PICTURE
    write_atomically(path, sweep_picture(study.plan, done))
    return path


def _said(values: dict[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in values.items())
