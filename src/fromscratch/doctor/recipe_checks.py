"""What is looked for in a recipe, before anything is spent.

In: a `RecipeSubject`: the recipe, its plan, and, where it is to run here, this machine. No torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fromscratch.chat.rendering import text_template
from fromscratch.data.embedded import is_embedded
from fromscratch.data.hub import HUB_PREFIX
from fromscratch.data.listing import matching_files
from fromscratch.doctor.finding import Check
from fromscratch.foundation.advice import Advice
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.names import DATA_MANIFEST
from fromscratch.plan.compute import far_from_optimal
from fromscratch.report.numerals import percent, short, significant
from fromscratch.runs.data_config import SourceConfig
from fromscratch.runs.mixture_plan import mixture_warnings
from fromscratch.runs.planning import Plan, checkpoints_disk_bytes, make_plan
from fromscratch.runs.recipe import Recipe
from fromscratch.runs.schedule_plan import schedule_warnings

if TYPE_CHECKING:
    from fromscratch.data.shards import Manifest

# Muennighoff et al. (2023), figure 1: up to four passes are about as good as new text.
_WORTH_REPEATING = 4.0
# Up to this scale fp16 rounds a good part of a language model's gradients to zero.
_NO_SCALE = 256
_LOST_SHARE = 0.1
# Of English with a vocabulary of some tens of thousands; smaller ones have fewer.
_BYTES_A_TOKEN = 4.0


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
        name = data.path if data.path.startswith(HUB_PREFIX) else Path(data.path).name
        return [SourceConfig(name=name, path=data.path, render=data.render)]

    @property
    def epochs(self) -> Mapping[str, float]:
        """How often each source is gone through, of those where that is known."""
        mixture, recipe = self.plan.mixture, self.recipe
        known = {} if mixture is None else {s.name: s.epochs for s in mixture.sources}
        if recipe.train.epochs is not None and len(self.sources) == 1:
            known = {self.sources[0].name: recipe.train.epochs}
        names = {source.path: source.name for source in self.sources}
        return {names.get(n, n): epochs for n, epochs in known.items() if epochs is not None}

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
    far = far_from_optimal(plan.total_tokens, parameters)
    if far == "few":
        yield Advice(
            "R15",
            f"few tokens for the size: {figures}",
            f"write train.tokens={best:_}, or a smaller model",
        )
    elif far == "many":
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


def _repeated_raw(subject: RecipeSubject) -> Iterator[Advice]:
    """Of text that is not prepared yet, how often it is read, from its size in bytes."""
    total, tokenizer = subject.plan.total_tokens, subject.recipe.data.tokenizer
    if subject.epochs or not subject.pretrains or total is None:
        return
    n_bytes = 0
    for source in subject.sources:
        if source.path.startswith(HUB_PREFIX) or is_embedded(source.path):
            return
        try:
            files, _ = matching_files(source.path)
        except UserError:  # it is elsewhere
            return
        n_bytes += sum(path.stat().st_size for path in files if path.is_file())
    tokens = n_bytes / (1 if tokenizer in ("bytes", "chars") else _BYTES_A_TOKEN)
    if tokens and total / tokens > 2 * _WORTH_REPEATING:
        yield Advice(
            "R15",
            f"the text has {short(n_bytes)} bytes, perhaps {short(tokens)} tokens, which are gone "
            f"through about {significant(total / tokens, 2)} times: beyond four times it teaches "
            "less and less, and a small corpus is learned by heart",
            "give more text, or a smaller train.steps",
        )


def _too_often(subject: RecipeSubject) -> Iterator[Advice]:
    """What a [[data.source]] forbids by its max_epochs."""
    for refusal in [] if subject.plan.mixture is None else subject.plan.mixture.refusals:
        yield Advice("R15", refusal.rstrip("."), "")


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
    known: Mapping[str, float] | None = epochs
    if not epochs:
        known = _epochs_by_name(subject)
    elif len(epochs) < len(subject.sources):
        known = None
    return schedule_warnings(subject.recipe, plan.steps, known)


_NAMED_TOKENS = {"sample-10BT": 10e9, "sample-100BT": 100e9, "sample-350BT": 350e9}


def _epochs_by_name(subject: RecipeSubject) -> Mapping[str, float] | None:
    """Of corpora of the hub whose names say how many tokens they have; before any is downloaded."""
    total, found = subject.plan.total_tokens, {}
    if total is None:
        return None
    for source in subject.sources:
        _, _, part = source.path.rpartition(":")
        if not source.path.startswith(HUB_PREFIX) or part not in _NAMED_TOKENS:
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
            "make room, choose another --run, or write "
            + (
                "a larger checkpoint.keep_every"
                if subject.recipe.checkpoint.keep_every
                else "checkpoint.keep_last=1"
            ),
        )


def _memory(subject: RecipeSubject) -> Iterator[Advice]:
    machine, plan = subject.machine, subject.plan
    if machine is None or machine.memory_bytes is None:
        return
    if plan.memory.total > machine.memory_bytes:
        smaller = (
            "write train.micro_batch=auto, which finds the largest that fits before step 1"
            if plan.memory_micro_batch > 1
            else "write train.activation_checkpointing=true, or a smaller model.context or model"
        )
        yield Advice(
            "R39",
            f"a step with micro-batch {plan.memory_micro_batch} needs about "
            f"{gigabytes(plan.memory.total)}, and here {gigabytes(machine.memory_bytes)} are free "
            f"({machine.device})",
            smaller,
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
    sample, steps = subject.recipe.sample, subject.plan.steps
    if sample.every == 0 or not sample.prompts or (steps and sample.every > steps):
        often = min(500, max(1, (steps or 2_500) // 5))
        yield Advice(
            "R47",
            "no text is sampled before the end, so nobody sees what the losses mean",
            f"write sample.every={often}" if sample.prompts else 'write sample.prompts=["Once"]',
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
    Check("R15", "no more passes than allowed", _too_often, "refused"),
    Check("R15", "text is not repeated too often", _repeated),
    Check("R15", "text that is still to be prepared is enough", _repeated_raw),
    Check("R30", "optimiser and schedule are meant", _schedule),
    Check("R22", "fp16 is scaled", _unscaled),
    Check("R39", "a step fits in memory", _memory),
    Check("R42", "a kill costs little", _seldom_saved),
    Check("R50", "only answers are learned", _prompts_learned),
    Check("R47", "samples along the way", _no_samples),
)
"""In the order in which they are said; the refusals are said first."""
