"""`fromscratch try`: the main job, on text that every machine has."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING

from fromscratch.cli.documents_progress import documents_progress
from fromscratch.cli.session import ranks_of_this_run, train_session
from fromscratch.cli.show import out, say, size, table
from fromscratch.cli.vocabulary import option
from fromscratch.cli.vocabulary import overrides as said_overrides
from fromscratch.report.numerals import duration

if TYPE_CHECKING:
    from fromscratch.runs.first_run import FirstResult


def run(
    overrides: list[str] = said_overrides(),
    data: str = option("data", "stdlib", of="your own; stdlib is this Python's own library"),
    minutes: float = option("minutes", 2.0),
    run_folder: Path = option("run", show_default="runs/try, runs/try-2, ..."),
) -> None:
    """Trains a small model in about two minutes, and shows what it learned.

    Example: fromscratch try --data my-notes/ --minutes 5
    """
    begin = time.perf_counter()
    from fromscratch.data.watching import unwatched
    from fromscratch.foundation.errors import UserError
    from fromscratch.foundation.names import RunPaths

    with ranks_of_this_run() as ranks:
        if ranks.size > 1:
            raise UserError(
                "`try` measures one process on this machine, and trains in it.",
                fix="Start it without torchrun; `train` and `resume` take many processes.",
            )
    for word in overrides or []:
        if "=" not in word and Path(word).exists():
            raise UserError(
                f"{word} is a path, not an override.",
                fix="Say --data PATH; a glob goes in quotes, or the shell takes it apart.",
            )
    if run_folder is not None:
        from fromscratch.runs.assemble import refuse_existing

        refuse_existing(RunPaths(run_folder))
    out.print("[bold]1. Text[/]")
    with documents_progress() as progress:
        from fromscratch.runs.first_run import judge_first_run, next_free_run, plan_first_run

        plan = plan_first_run(data, minutes, overrides or [], report=progress)
    manifest, recipe = plan.manifest, plan.recipe
    name = "this Python's own standard library" if data == "stdlib" else data
    n_bytes = manifest.total("bytes", "train")
    say(
        f"   {name}: {manifest.total('documents', 'train'):,} documents, {size(n_bytes)}, "
        f"{manifest.total('tokens', 'train'):,} tokens; {manifest.total('documents', 'val')} more "
        "documents are held out"
    )
    skipped = sum(source.files_skipped for source in manifest.sources)
    if skipped:
        say(f"   {skipped} files were skipped: not text, or empty")
    prepared_after = time.perf_counter() - begin

    folder = run_folder or next_free_run("try")
    from fromscratch.model.count import count_parameters
    from fromscratch.runs.assemble import new_run

    total = count_parameters(recipe.model).total
    assert recipe.train.steps is not None
    estimate = duration(recipe.train.steps * plan.step_seconds)
    out.print("[bold]2. Training[/]")
    say(f"   {total:,} parameters, {recipe.train.steps:,} steps, about {estimate}, in {folder}")
    session = new_run(recipe, folder, report=unwatched)
    begin_training = time.perf_counter()
    if not train_session(session):
        return
    trained_in = time.perf_counter() - begin_training
    out.print("[bold]3. What it learned[/]")
    result = judge_first_run(session)
    _print_yardsticks(result)
    _print_samples(folder)
    from fromscratch.report.build import write_report

    report = write_report(folder)
    say()
    say(f"   run     {folder}")
    say(f"   report  {report.resolve()}")
    say(
        f"   time    {duration(prepared_after)} text, "
        f"{duration(trained_in)} training and validation"
    )
    _print_next(folder, recipe.train.steps, recipe.sample.prompts[0])


def _print_yardsticks(result: FirstResult) -> None:
    rows = [[y.name, f"{y.bpb:.3f}"] for y in result.yardsticks]
    say(
        f"   bits per byte of all {result.documents} held-out documents ({size(result.bytes)}; "
        "while training, a fixed part of them)"
    )
    table(["   ", "bits/byte"], [["   " + name, value] for name, value in rows])


def _print_samples(folder: Path) -> None:
    from fromscratch.foundation.files import read_json_lines
    from fromscratch.foundation.names import RunPaths

    rows = list(read_json_lines(RunPaths(folder).samples))
    last = max((row["step"] for row in rows), default=0)
    for row in [r for r in rows if r["step"] == last][:3]:
        say()
        for line in (row["prompt"] + row["text"]).strip("\n").split("\n")[:8]:
            say(f"   | {line[:100]}")


def _print_next(folder: Path, steps: int, prompt: str) -> None:
    quoted = shlex.quote(prompt.split("\n")[0])
    run = shlex.quote(str(folder))
    out.print("[bold]4. Next[/]")
    say(f"   write       fromscratch generate {run} {quoted}")
    say(f"   together    fromscratch chat {run} (you begin a text, it goes on)")
    say(f"   train on    fromscratch resume {run} train.steps={2 * steps}")
    say("   your text   fromscratch try --data PATH --minutes 10")
    say("   for real    fromscratch plan modern-124m")
    say("   to a chat   docs/tutorial.md goes on from here")
