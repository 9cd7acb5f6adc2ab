"""`fromscratch doctor`: what a person would regret of a recipe, of data, of a run or of a model."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fromscratch.cli.data_verb import paragraph
from fromscratch.cli.doctor_against import Part, look_for_items
from fromscratch.cli.show import out, print_json, say
from fromscratch.cli.vocabulary import argument, option
from fromscratch.foundation.errors import UserError

if TYPE_CHECKING:
    from fromscratch.doctor.checks import Examined
    from fromscratch.doctor.example_tokens import Stretch
    from fromscratch.doctor.finding import Finding
    from fromscratch.runs.recipe import Recipe

_COLOURS = {"refused": "bold red", "warned": "yellow"}
_INDENT = " " * 15
_MOST_TOKENS = 60


def run(
    what: list[str] = argument("WHAT", None),
    start: str = option("from"),
    against: list[Path] = option("against", of="looked for in the data's text"),
    split: Part = option(
        "split", Part.all, of="of a file in the order 85% train, 10% test, 5% val"
    ),
    ngram: int = option("ngram", 13),
    full: bool = option("full", False),
    explain: str = option("explain"),
    strict: bool = option("strict", False),
    as_json: bool = option("json", False),
) -> None:
    """Finds what people regret, before it costs GPU-hours; each with what mends it.

    The exit code is 0 where nothing is refused, 1 where something is, 2 for a mistake in the call.
    With --against it is 1 where an item was found; 500 million training tokens are read at most,
    evenly spread.

    Example: fromscratch doctor modern-124m train.steps=500

    Example: fromscratch doctor runs/mine

    Example: fromscratch doctor prepared/mine --against hellaswag_val.jsonl
    """
    if explain is not None:
        _explain(explain, as_json=as_json)
        return
    if not what:
        raise UserError(
            "doctor is not told what to look at.",
            fix="Name a recipe, or a folder: fromscratch doctor modern-124m",
        )
    if against:
        look_for_items(Path(what[0]), against, part=split, ngram=ngram, full=full, as_json=as_json)
        return
    examined, example = _examine(what, start)
    if as_json:
        print_json(_as_json(what, examined, example))
    else:
        _print(examined, example)
    if examined.refused or (strict and examined.findings):
        raise typer.Exit(1)


def _examine(what: Sequence[str], start: str | None) -> tuple[Examined, list[Stretch]]:
    """Looks at everything that is named, and at the data of what is named."""
    from fromscratch.doctor.checks import Examined, compare_runs, data_of_run, examine_folder
    from fromscratch.report.read import is_run

    first, *rest = what
    if not Path(first).expanduser().is_dir():
        return _examine_recipe(first, rest, start)
    if start is not None:
        raise UserError("--from goes with a recipe, and this is a folder.", fix="Leave it out.")
    folders = [Path(word).expanduser() for word in what]
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder} is not a folder.", fix="Overrides go with a recipe only.")
    examined = sum((examine_folder(folder) for folder in folders), Examined())
    runs = [folder for folder in folders if is_run(folder)]
    if len(runs) > 1:
        examined += compare_runs(runs)
    return examined, _first_example([*folders, *(d for run in runs for d in data_of_run(run))])


def _examine_recipe(
    recipe: str, overrides: list[str], start: str | None
) -> tuple[Examined, list[Stretch]]:
    from fromscratch.doctor.checks import (
        Examined,
        examine_data_of,
        examine_recipe,
        on_its_data,
        prepared_data_of,
    )
    from fromscratch.doctor.finding import refusal
    from fromscratch.doctor.machine import this_machine
    from fromscratch.runs.recipe_files import load_recipe, read_recipe

    name = _name_of(recipe, read_recipe)
    complete = None
    if start is not None:
        from fromscratch.runs.starting_model import find_starting_model

        complete = find_starting_model(start).complete
    try:
        resolved = load_recipe(recipe, overrides, complete=complete)
    except UserError as error:
        if error.regret is None:  # a slip in what was typed, or a recipe that is none
            fix = error.fix and error.fix.replace("fromscratch train ", "fromscratch doctor ")
            raise UserError(error.what, fix=fix) from None
        return Examined([refusal(error, name)]), []
    try:
        if resolved.train.objective != "pretrain" and resolved.data.path:
            resolved = _with_examples(resolved)
    except UserError as error:
        return Examined([refusal(error, name)]), []
    on_data = Examined()
    if resolved.train.objective == "pretrain":
        resolved, on_data = on_its_data(resolved)
    examined = examine_recipe(resolved, machine=this_machine(resolved))
    examined += on_data + examine_data_of(resolved)
    return examined, _first_example(prepared_data_of(resolved))


def _name_of(recipe: str, read: Callable[[str], tuple[str, str]]) -> str:
    """A recipe's name; a text that is given instead is told apart."""
    path = Path(recipe).expanduser()
    if path.is_file() and path.suffix != ".toml":
        raise UserError(
            f"{path} is a text, and no recipe.",
            fix=f"Look at a recipe on it: fromscratch doctor modern-124m data.path={path}",
        )
    return read(recipe)[0]


def _with_examples(recipe: Recipe) -> Recipe:
    """The recipe on its conversations made into examples: `train` then finds them made."""
    from fromscratch.cli.documents_progress import documents_progress
    from fromscratch.runs.opened_examples import open_examples

    with documents_progress() as progress:
        return recipe.on_data(open_examples(recipe, progress).folders)


def _first_example(folders: Sequence[Path]) -> list[Stretch]:
    """The first example of the first folder that has examples (R50)."""
    from fromscratch.data.examples import Examples, is_examples
    from fromscratch.doctor.example_tokens import first_example

    for folder in folders:
        with suppress(UserError, OSError):  # a damaged one is among the findings
            if is_examples(folder):
                return first_example(Examples(folder))
    return []


def _as_json(
    what: Sequence[str], examined: Examined, example: Sequence[Stretch]
) -> dict[str, object]:
    return {
        "what": list(what),
        "refused": examined.refused,
        "findings": [asdict(finding) for finding in examined.findings],
        "checks": [{"id": regret, "name": name} for regret, name in examined.checked],
        "example": [asdict(stretch) for stretch in example],
    }


def _print(examined: Examined, example: Sequence[Stretch]) -> None:
    about = ""
    for finding in examined.findings:
        if finding.about != about:
            about = finding.about
            say(about)
        _print_finding(finding)
    if example:
        _print_example(example)
    _print_verdict(examined)


def _print_finding(finding: Finding) -> None:
    label = f"{finding.severity:<8}"
    colour = _COLOURS[finding.severity]
    out.print(f"  [{colour}]{label}[/] {finding.id:<3} ", end="", highlight=False)
    _say_hanging(finding.what)
    if finding.fix:
        _say_hanging(f"-> {finding.fix}", first=_INDENT, further="   ")


def _say_hanging(text: str, *, first: str = "", further: str = "") -> None:
    """Says a text behind `first`; what does not fit on its line stands below, indented."""
    indent = _INDENT + further
    lines = textwrap.wrap(text, max(30, out.width - len(indent)), break_on_hyphens=False)
    lines = lines or [""]  # of nothing but blanks
    say("\n".join([first + lines[0], *(indent + line for line in lines[1:])]))


def _print_example(example: Sequence[Stretch]) -> None:
    say("the first example, token by token")
    for stretch in example:
        tokens = list(stretch.tokens)
        if len(tokens) > _MOST_TOKENS:
            half = _MOST_TOKENS // 2
            left_out = f"({len(tokens) - 2 * half:,} more)"
            tokens = [*tokens[:half], left_out, *tokens[-half:]]
        said = "learned" if stretch.learned else "given"
        text = " · ".join(
            repr(token)[1:-1] if token.strip() != token else token for token in tokens
        )
        _say_hanging(text, first=f"  {said:<13}")
    say()


def _print_verdict(examined: Examined) -> None:
    checks = len(examined.checked)
    if not examined.findings:
        say(f"{checks} checks: nothing that you would regret.")
        return
    counts = [
        f"{n:,} {severity}"
        for severity in ("refused", "warned")
        if (n := sum(f.severity == severity for f in examined.findings))
    ]
    told = next((f.id for f in examined.findings if f.id), None)
    said = f"{checks} checks: {', '.join(counts)}." if checks else f"{', '.join(counts)}."
    more = f" More about {told}: fromscratch doctor --explain {told}" if told else ""
    say()
    paragraph(said + more)


def _explain(name: str, *, as_json: bool) -> None:
    from fromscratch.doctor.checks import all_checks
    from fromscratch.doctor.regrets import regret_named

    regret = regret_named(name)
    looked_for = list(dict.fromkeys(c.name for c in all_checks() if c.id == regret.id))
    if as_json:
        print_json(asdict(regret) | {"checks": looked_for})
        return
    say(f"{regret.id}  {regret.title}  ({', '.join(regret.verdicts)})")
    say()
    paragraph(regret.story)
    say()
    paragraph(f"Here: {regret.here}")
    if looked_for:
        say()
        paragraph(f"Checked by the doctor: {'; '.join(looked_for)}.")
