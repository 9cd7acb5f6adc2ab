"""What is looked for in a recipe, before anything is spent.

In: a `RecipeSubject`: the recipe, its plan, and, where it is to run here, this machine. No torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fromscratch.chat.rendering import text_template
from fromscratch.doctor.finding import Check
from fromscratch.foundation.advice import Advice
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.names import DATA_MANIFEST
from fromscratch.report.numerals import percent, short, significant
from fromscratch.runs.data_config import SourceConfig
from fromscratch.runs.mixture_plan import mixture_warnings
from fromscratch.runs.planning import Plan, checkpoints_disk_bytes, make_plan
from fromscratch.runs.recipe import Recipe
from fromscratch.runs.schedule_plan import schedule_warnings

if TYPE_CHECKING:
    from fromscratch.data.shards import Manifest

# At a quarter of Chinchilla's tokens a model half the size would have done as well; from four
# times on, the same compute would have made a larger model better.
_TOO_FEW, _TOO_MANY = 0.25, 4.0
# Muennighoff et al. (2023), figure 1: up to four passes are about as good as new text.
_WORTH_REPEATING = 4.0
# Up to this scale fp16 rounds a good part of a language model's gradients to zero.
_NO_SCALE = 256
_LOST_SHARE = 0.1


@dataclass(frozen=True)
class Machine:
    """Where a run is to be.

    Attributes:
        free_bytes: On the disk of the run folder.
        memory_bytes: That the device has free; None where that is not known.
        device: What a person calls it.
    """

    free_bytes: int
    memory_bytes: int | None = None
    device: str = ""


@dataclass(frozen=True)
class RecipeSubject:
    """A recipe, and what is known before it runs.

    Attributes:
        recipe: As it would run.
        plan: Its numbers.
        machine: Where; None for anywhere.
    """

    recipe: Recipe
    plan: Plan
    machine: Machine | None = None

    @property
    def sources(self) -> list[SourceConfig]:
        """What it is trained on; the one text of `data.path` is a source of its own."""
        data = self.recipe.data
        if data.source or data.path is None:
            return list(data.source)
        return [SourceConfig(name=data.path, path=data.path, render=data.render)]

    @property
    def epochs(self) -> Mapping[str, float]:
        """How often each source is gone through, of those where that is known."""
        mixture = self.plan.mixture
        if mixture is None:
            return {}
        return {s.name: s.epochs for s in mixture.sources if s.epochs is not None}

    @property
    def pretrains(self) -> bool:
        """Whether it trains from nothing, on text."""
        return self.recipe.train.objective == "pretrain" and not self.recipe.base.model


def recipe_subject(
    recipe: Recipe, *, steps: int | None = None, machine: Machine | None = None
) -> RecipeSubject:
    """Plans a recipe.

    Args:
        recipe: To be looked at.
        steps: Of its run, where more is known of it than the recipe says.
        machine: Where it is to run.

    Raises:
        UserError: Its prepared data is damaged.
    """
    plan = make_plan(recipe)
    if plan.steps is None and steps is not None:
        plan = replace(plan, steps=steps, total_tokens=steps * recipe.train.tokens_per_step)
    return RecipeSubject(recipe, plan, machine)


def gigabytes(n_bytes: float) -> str:
    """Bytes as disks and memory are sold."""
    return f"{n_bytes / 1e9:,.1f} GB"


def _jumps(subject: RecipeSubject) -> list[Advice]:
    return mixture_warnings(subject.recipe, subject.plan.steps)


def _would_hold_nothing_out(subject: RecipeSubject) -> Iterator[Advice]:
    """Text that is still to be prepared is not, without a part that is held out."""
    is_text = subject.recipe.train.objective == "pretrain"
    if is_text and subject.recipe.data.val_fraction == 0 and _prepared(subject) is None:
        yield _not_held_out("data.val_fraction = 0", "write data.val_fraction=0.01")


def _nothing_held_out(subject: RecipeSubject) -> Iterator[Advice]:
    if subject.recipe.train.objective != "pretrain":
        if subject.recipe.data.val_fraction == 0:
            yield _not_held_out("data.val_fraction = 0", "write data.val_fraction=0.05")
        return
    for name, manifest in (_prepared(subject) or {}).items():
        if not manifest.total("tokens", "val"):
            yield _not_held_out(
                f'of "{name}" nothing is held out', "prepare it without --no-validation"
            )


def _prepared(subject: RecipeSubject) -> dict[str, Manifest] | None:
    """The manifest of each source; None where one is not prepared yet."""
    from fromscratch.data.shards import is_prepared, load_manifest

    folders = {source.name: Path(source.path).expanduser() for source in subject.sources}
    if not all((folder / DATA_MANIFEST).is_file() for folder in folders.values()):
        return None
    return {name: load_manifest(f) for name, f in folders.items() if is_prepared(f)}


def _not_held_out(where: str, fix: str) -> Advice:
    return Advice("R04", f"{where}: nobody can tell whether the model learns or memorises", fix)


def _too_few_tokens(subject: RecipeSubject) -> Iterator[Advice]:
    """20 tokens a parameter, from Hoffmann et al. (2022); and how often they are the same ones."""
    plan = subject.plan
    if not subject.pretrains or plan.total_tokens is None:
        return
    best, parameters = plan.chinchilla_tokens, plan.parameters.total
    ratio = plan.total_tokens / parameters
    figures = (
        f"{short(plan.total_tokens)} tokens for {short(parameters)} parameters, "
        f"{significant(ratio, 2)} a parameter where about 20 are compute-optimal "
        f"({short(best)} tokens, Chinchilla)"
    )
    if plan.total_tokens < _TOO_FEW * best:
        yield Advice(
            "R15",
            f"few tokens for the size: {figures}",
            f"write train.tokens={best:_}, or a smaller model",
        )
    elif plan.total_tokens > _TOO_MANY * best:
        yield Advice(
            "R15",
            f"many tokens for the size: {figures}; the same compute would make a larger model "
            "better",
            "keep it if the model must be small, else give it more model.n_layer and model.d_model",
        )


def _repeated(subject: RecipeSubject) -> Iterator[Advice]:
    for name, epochs in subject.epochs.items():
        if subject.pretrains and epochs > _WORTH_REPEATING:
            yield Advice(
                "R15",
                f'the text of "{name}" is gone through {epochs:.1f} times: beyond four times it '
                "teaches less and less, and a small corpus is learned by heart",
                "give more text, or a smaller train.steps",
            )


def _unscaled(subject: RecipeSubject) -> Iterator[Advice]:
    train = subject.recipe.train
    scale = train.loss_scale.initial
    if train.precision == "fp16" and scale <= _NO_SCALE:
        yield Advice(
            "R22",
            f"train.loss_scale.initial = {scale:,} hardly scales: fp16 rounds gradients below 6e-8 "
            f"to zero, and the scale doubles only every {train.loss_scale.growth_interval:,} steps",
            "leave train.loss_scale.initial out (65,536)",
        )


def _schedule(subject: RecipeSubject) -> list[Advice]:
    plan, epochs = subject.plan, subject.epochs
    of_all = len(epochs) == len(subject.sources) if epochs else False
    known: Mapping[str, float] | None = epochs if of_all else None
    if known is None and plan.total_tokens is not None and not _is_prepared(subject):
        known = _at_most_one_epoch(subject, plan.total_tokens)
    return schedule_warnings(subject.recipe, plan.steps, known)


def _is_prepared(subject: RecipeSubject) -> bool:
    return bool(subject.epochs)


_NAMED_TOKENS = {"sample-10BT": 10e9, "sample-100BT": 100e9, "sample-350BT": 350e9}


def _at_most_one_epoch(subject: RecipeSubject, total: int) -> Mapping[str, float] | None:
    """A corpus of the hub whose name says how many tokens it has; before it is downloaded."""
    found = {}
    for source in subject.sources:
        _, _, part = source.path.rpartition(":")
        if not source.path.startswith("hf:") or part not in _NAMED_TOKENS:
            return None
        found[source.name] = total / _NAMED_TOKENS[part]
    return found or None


def _disk(subject: RecipeSubject) -> Iterator[Advice]:
    if subject.machine is None:
        return
    needed = checkpoints_disk_bytes(subject.recipe, subject.plan.steps)
    free = subject.machine.free_bytes
    if needed > free:
        yield Advice(
            "R35",
            f"the checkpoints take up to {gigabytes(needed)}, and the disk has {gigabytes(free)} "
            "free",
            "make room, choose another --run, or write checkpoint.keep_last=1",
        )


def _memory(subject: RecipeSubject) -> Iterator[Advice]:
    machine, plan = subject.machine, subject.plan
    if machine is None or machine.memory_bytes is None:
        return
    if plan.memory.total > machine.memory_bytes:
        yield Advice(
            "R39",
            f"a step of {plan.memory_micro_batch} windows needs about "
            f"{gigabytes(plan.memory.total)}, and here {gigabytes(machine.memory_bytes)} are free "
            f"({machine.device})",
            "write train.micro_batch=auto, which finds the largest that fits before step 1",
        )


def _seldom_saved(subject: RecipeSubject) -> Iterator[Advice]:
    checkpoint, steps = subject.recipe.checkpoint, subject.plan.steps
    if checkpoint.every_minutes == 0 and steps and checkpoint.every > _LOST_SHARE * steps:
        yield Advice(
            "R42",
            f"a kill costs up to {min(checkpoint.every, steps):,} of {steps:,} steps "
            f"({percent(min(1.0, checkpoint.every / steps))}): checkpoint.every_minutes = 0",
            "leave checkpoint.every_minutes out (30)",
        )


def _no_samples(subject: RecipeSubject) -> Iterator[Advice]:
    sample = subject.recipe.sample
    if sample.every == 0 or not sample.prompts:
        yield Advice(
            "R47",
            "no text is sampled before the end, so nobody sees what the losses mean",
            "write sample.every=500" if sample.prompts else 'write sample.prompts=["Once"]',
        )


def _role_strings(subject: RecipeSubject) -> Iterator[Advice]:
    """Conversations as text to pretrain on: roles that are tokens become six tokens of noise."""
    for source in subject.sources:
        if source.render is None:
            continue
        try:
            text_template(source.render)
        except UserError as error:
            tokenizer = subject.recipe.data.tokenizer
            yield Advice(
                "R49",
                f'"{source.name}" would be written with role strings that are no tokens of '
                f'"{tokenizer}": {error.what[0].lower()}{error.what[1:].removesuffix(" (R49).")}',
                'write render = "alpaca", which marks turns by words; or finetune on it: '
                "fromscratch train sft-110 --from RUN",
            )


def _prompts_learned(subject: RecipeSubject) -> Iterator[Advice]:
    if subject.recipe.train.objective == "sft" and subject.recipe.chat.loss_on == "all":
        yield Advice(
            "R50",
            'the words of the user are learned as well (chat.loss_on = "all"), so the model also '
            "learns to ask",
            "write chat.loss_on=assistant",
        )


RECIPE_CHECKS: tuple[Check[RecipeSubject], ...] = (
    Check("R04", "text will be held out", _would_hold_nothing_out, "refused"),
    Check("R49", "roles are tokens", _role_strings, "refused"),
    Check("R35", "checkpoints fit on the disk", _disk, "refused"),
    Check("R04", "text is held out", _nothing_held_out),
    Check("R01", "no jump between stages", _jumps),
    Check("R15", "enough tokens for the size", _too_few_tokens),
    Check("R15", "text is not repeated too often", _repeated),
    Check("R30", "optimiser and schedule are meant", _schedule),
    Check("R22", "fp16 is scaled", _unscaled),
    Check("R39", "a step fits in memory", _memory),
    Check("R42", "a kill costs little", _seldom_saved),
    Check("R50", "only answers are learned", _prompts_learned),
    Check("R47", "samples along the way", _no_samples),
)
"""In the order in which they are said; the refusals are said first."""
