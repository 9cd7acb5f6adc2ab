"""All checks, and what each kind of thing is looked at with.

In: a recipe, prepared data, a run or a model. Out: `Examined`: findings, refusals first, and what
was looked for. A check looks for one regret in one kind of thing; what none of them has is in
docs/regrets.md: a design that rules it out, and its test.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fromscratch.doctor.finding import Check, Finding, Subject, refusal
from fromscratch.doctor.recipe_checks import RECIPE_CHECKS, Machine, recipe_subject
from fromscratch.foundation.errors import UserError
from fromscratch.runs.recipe import Recipe

AGAINST = Check[Any]("R16", "no evaluation item in the training text", lambda subject: ())
"""`doctor DATA --against FILE` reads all of the training text, so it is asked for by name."""
COMPARED = Check[Any]("R44", "losses of several runs are of one text", lambda subject: ())
"""Of several runs at once: run_checks.compare."""


def all_checks() -> tuple[Check[Any], ...]:
    """Every check of every kind of thing."""
    from fromscratch.doctor.data_checks import DATA_CHECKS, EXAMPLES_CHECKS
    from fromscratch.doctor.model_checks import MODEL_CHECKS
    from fromscratch.doctor.run_checks import RUN_CHECKS

    kinds = (RECIPE_CHECKS, DATA_CHECKS, EXAMPLES_CHECKS, RUN_CHECKS, MODEL_CHECKS)
    return (*(check for kind in kinds for check in kind), AGAINST, COMPARED)


@dataclass(frozen=True)
class Examined:
    """What came of looking.

    Attributes:
        findings: Refusals first, then in the order of the checks.
        checked: Regret and name of each check.
    """

    findings: list[Finding] = field(default_factory=list)
    checked: list[tuple[str, str]] = field(default_factory=list)

    @property
    def refused(self) -> bool:
        """Whether anything will not run, or must not."""
        return any(finding.severity == "refused" for finding in self.findings)

    def __add__(self, other: Examined) -> Examined:
        findings = [*self.findings, *other.findings]
        first = sorted(findings, key=lambda finding: finding.severity != "refused")
        return Examined(first, [*self.checked, *other.checked])


def examine_recipe(
    recipe: Recipe, *, steps: int | None = None, machine: Machine | None = None
) -> Examined:
    """Looks at a recipe.

    Args:
        recipe: Before its run.
        steps: Of the run, where more is known of it than the recipe says.
        machine: Where it is to run; None where that does not matter.
    """
    try:
        subject = recipe_subject(recipe, steps=steps, machine=machine)
    except UserError as error:
        return Examined([refusal(error, recipe.name)])
    return _examine(RECIPE_CHECKS, subject, recipe.name)


def before_the_run(recipe: Recipe, steps: int) -> list[str]:
    """The short form that every run begins with: a sentence for each finding.

    Refusals are not among them: who gets here has passed them. Nor is what of the data is not held
    out: that is said, source by source, when the data is opened.
    """
    found = examine_recipe(recipe, steps=steps).findings
    return [str(f) for f in found if f.severity == "warned" and f.id != "R04"]


def prepared_data_of(recipe: Recipe) -> list[Path]:
    """The folders of a recipe's data that are prepared already."""
    from fromscratch.data.examples import is_examples
    from fromscratch.data.shards import is_prepared

    data = recipe.data
    paths = [source.path for source in data.source] or ([data.path] if data.path else [])
    folders = dict.fromkeys(Path(path).expanduser() for path in paths)
    return [f for f in folders if f.is_dir() and (is_prepared(f) or is_examples(f))]


def on_its_data(recipe: Recipe) -> tuple[Recipe, Examined]:
    """A recipe that names the prepared data it would train on, and what opening that shows.

    Nothing is prepared here, and no hub is asked: a recipe whose text is not prepared stays as it
    is. What `train` would refuse of the data is refused, and text that the starting model has read
    is said (R03).
    """
    from fromscratch.data.consumption import read_before
    from fromscratch.data.watching import unwatched
    from fromscratch.runs.objectives import open_training_data
    from fromscratch.runs.opened_data import already_prepared
    from fromscratch.runs.starting_model import consumed_notes, read_by

    checked = [("R03", "its tokens are new"), ("", "its data goes with it")]
    try:
        folders = already_prepared(recipe.data)
        if folders is None:
            return recipe, Examined()
        data = open_training_data(recipe, unwatched).training
    except UserError as error:
        return recipe, Examined([refusal(error, recipe.name)], checked)
    base = recipe.base.model
    notes = consumed_notes(recipe, data, read_before(read_by(base), data), model=base)
    fix = "write data.seed=1 for another order, or give new text"
    found = [Finding("R03", "warned", said, fix, recipe.name, checked[0][1]) for _, said in notes]
    return recipe.on_data(folders), Examined(found, checked)


def examine_data_of(recipe: Recipe) -> Examined:
    """Looks at a recipe's data, so far as it is prepared; leaves out what the recipe mends."""
    found = Examined()
    for folder in prepared_data_of(recipe):
        found += _examine_data(folder, str(folder), recipe.model.context)
    mended = {"R52"} if recipe.data.document_mask else set()
    return Examined([f for f in found.findings if f.id not in mended], found.checked)


def examine_folder(folder: Path) -> Examined:
    """Looks at prepared data, a run or a model.

    Args:
        folder: What it is is told from its files.

    Raises:
        UserError: It is none of them.
    """
    from fromscratch.data.examples import is_examples
    from fromscratch.data.shards import is_prepared
    from fromscratch.foundation.names import CHECKPOINT_CONFIG, DATA_MANIFEST
    from fromscratch.report.read import is_run

    about = str(folder)
    if (folder / CHECKPOINT_CONFIG).is_file():
        return _examine_model(folder, about)
    if (folder / DATA_MANIFEST).is_file() or is_prepared(folder) or is_examples(folder):
        return _examine_data(folder, about)
    if is_run(folder):
        return _examine_run(folder, about)
    inside = sorted(p.name for p in folder.iterdir() if p.is_dir() and is_run(p))[:5]
    raise UserError(
        f"{folder} is no prepared data, no run and no model.",
        fix=f"It has runs in it: fromscratch doctor {shlex.quote(str(folder / inside[0]))}"
        if inside
        else "Name a recipe, or a folder that prepare, train or Hugging Face wrote.",
    )


def compare_runs(folders: Sequence[Path]) -> Examined:
    """Looks at several runs side by side."""
    from fromscratch.doctor.run_checks import RunSubject, compare

    found = [
        Finding(advice.regret, "warned", advice.what, advice.fix, about)
        for about, advice in compare([RunSubject(folder) for folder in folders])
    ]
    return Examined(found, [(COMPARED.id, COMPARED.name)])


def _examine_model(folder: Path, about: str) -> Examined:
    from fromscratch.doctor.model_checks import MODEL_CHECKS, ModelSubject

    return _examine(MODEL_CHECKS, ModelSubject(folder), about)


def _examine_data(folder: Path, about: str, context: int = 1024) -> Examined:
    from fromscratch.data.examples import Examples, is_examples
    from fromscratch.doctor.data_checks import (
        DATA_CHECKS,
        EXAMPLES_CHECKS,
        DataSubject,
        ExamplesSubject,
    )

    try:
        if is_examples(folder):
            return _examine(EXAMPLES_CHECKS, ExamplesSubject(Examples(folder)), about)
    except UserError as error:
        return Examined([refusal(error, about)])
    return _examine(DATA_CHECKS, DataSubject(folder, context), about)


def _examine_run(folder: Path, about: str) -> Examined:
    """A run, and the recipe that it has."""
    from fromscratch.doctor.run_checks import RUN_CHECKS, RunSubject

    subject = RunSubject(folder)
    found = _examine(RUN_CHECKS, subject, about)
    if not subject.is_ours or not subject.paths.recipe.is_file():
        return found
    try:
        recipe = _recipe_of(folder)
    except UserError as error:
        return found + Examined([refusal(error, str(subject.paths.recipe))])
    # What a check of the same name saw in the curves is not said once more of the recipe.
    said = {(finding.id, finding.check) for finding in found.findings}
    of_recipe = examine_recipe(recipe, steps=subject.facts.planned_steps)
    kept = [f for f in of_recipe.findings if (f.id, f.check) not in said]
    found += Examined(kept, of_recipe.checked)
    of_data = examine_data_of(recipe)
    if subject.facts.state == "finished":  # its text may change now
        of_data = Examined([f for f in of_data.findings if f.id != "R13"], of_data.checked)
    return found + of_data


def data_of_run(folder: Path) -> list[Path]:
    """The prepared data that a run of ours is trained on; none where its recipe cannot be read."""
    try:
        return prepared_data_of(_recipe_of(folder))
    except UserError:
        return []


def _recipe_of(folder: Path) -> Recipe:
    from fromscratch.foundation.names import RunPaths
    from fromscratch.runs.recipe_files import load_recipe

    return load_recipe(str(RunPaths(folder).recipe))


def _examine(checks: Iterable[Check[Subject]], subject: Subject, about: str) -> Examined:
    examined = Examined()
    for check in checks:
        found = Examined(check.findings(subject, about), [(check.id, check.name)])
        examined = examined + found
    # One cause can stop several checks: it is said once.
    once = {(f.id, f.severity, f.what, f.fix): f for f in reversed(examined.findings)}
    return Examined([*reversed(once.values())], examined.checked)
