"""The one place that turns a recipe into objects.

`new_run` makes a run folder and gives a `Session`, which trains; pick_up.py gives one of a run
that exists. What is checked here, before anything is spent: that this release can do all the
recipe asks, that the data was made by the tokenizer it names, that the disk has room for the
checkpoints.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from fromscratch.checkpoint.state import Progress, TrainState
from fromscratch.data.watching import Remark, Watch
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import (
    RunPaths,
    free_bytes,
    write_atomically,
)
from fromscratch.foundation.hardware import peak_flops, resolve_device
from fromscratch.foundation.world import World
from fromscratch.model.count import flops_per_token
from fromscratch.model.gpt import GPT
from fromscratch.optim.adamw8bit import choose_engine
from fromscratch.optim.build import build_optimizers
from fromscratch.runs.micro_batch import settle_micro_batch
from fromscratch.runs.mixture_plan import epochs_refusal, mixture_warnings
from fromscratch.runs.opened_data import OpenedData, open_data
from fromscratch.runs.planning import checkpoints_disk_bytes, not_yet
from fromscratch.runs.recipe import Recipe
from fromscratch.runs.schedule_plan import schedule_warnings
from fromscratch.runs.session import Session, versions
from fromscratch.track.jsonl import append_event
from fromscratch.track.mirrors import refuse_missing_trackers
from fromscratch.train.loop import LoopConfig
from fromscratch.train.precision import choose_precision
from fromscratch.train.saver import SavePlan


def new_run(recipe: Recipe, root: Path, *, report: Watch) -> Session:
    """Makes a run folder and everything to train in it.

    Args:
        recipe: What to run.
        root: The run folder; must not exist.
        report: Told how the preparation of data goes.

    Raises:
        UserError: The folder exists, or the recipe cannot be run as it is.
    """
    paths = RunPaths(root)
    refuse_existing(paths)
    check_supported(recipe)
    check_device(recipe)
    _check_space(recipe, root, recipe.steps())
    data = open_data(recipe.data, recipe.model, recipe.eval.tokens, report)
    settled = settle_micro_batch(
        recipe.on_data(data.folders), root, data.parts[0].folder, say=lambda s: report(Remark(s))
    )
    recipe = settled.recipe
    lock = FileLock(paths.lock)
    session = build_session(recipe, paths, data, lock)
    _check_space(recipe, root, session.config.steps)  # an epoch's length is known only now
    root.mkdir(parents=True, exist_ok=True)
    acquire(lock, paths)
    try:
        refuse_existing(paths)  # somebody may have been faster
        write_atomically(paths.recipe, recipe.to_toml())
        notes = (
            *data.warnings,
            *settled.notes,
            *recipe_notes(recipe, session),
            *precision_notes(session),
        )
        for name, message in notes:
            append_event(paths, name, 0, message, {})
            session.notes.append((name, message))
    except BaseException:
        lock.release()
        raise
    return session


def recipe_notes(recipe: Recipe, session: Session) -> list[tuple[str, str]]:
    """Name and sentence of what a recipe says and probably does not mean (R01, R30)."""
    steps = session.config.steps
    epochs = session.data.training.epochs(steps * recipe.samples_per_step)
    return [
        *(("mixture", sentence) for sentence in mixture_warnings(recipe, steps)),
        *(("recipe", sentence) for sentence in schedule_warnings(recipe, steps, epochs)),
    ]


def precision_notes(session: Session) -> list[tuple[str, str]]:
    """Name and sentence of what its precision does not do on this device, or does badly."""
    return [("precision", sentence) for sentence in session.precision.notes()]


def check_device(recipe: Recipe) -> None:
    """Refuses a device that is not there, and what it or what is installed cannot do.

    Raises:
        UserError: Says which.
    """
    device = resolve_device(recipe.train.device)
    choose_precision(recipe.train.precision, device)
    if recipe.optim.name == "adamw8bit":
        choose_engine(recipe.optim.engine, device)


def check_supported(recipe: Recipe, world: World | None = None) -> None:
    """Refuses what a recipe asks for and this release cannot do.

    Raises:
        UserError: Names the first such setting.
    """
    missing = not_yet(recipe)
    if missing:
        raise UserError(f'The recipe "{recipe.name}" cannot be run by this release: {missing[0]}.')
    if recipe.data.path is None and not recipe.data.source:
        raise UserError(
            f'The recipe "{recipe.name}" does not say what to train on.',
            fix="Give data.path=FOLDER (prepared data or text files).",
        )
    refuse_missing_trackers(recipe.track)
    if world is not None and world.size > 1:
        raise UserError(
            f"torchrun started {world.size} processes, and this release trains in one.",
            fix="Start it without torchrun.",
        )


# --- parts ----------------------------------------------------------------------------------------


def build_session(recipe: Recipe, paths: RunPaths, data: OpenedData, lock: FileLock) -> Session:
    """Model, optimisers and the loop's numbers, at step 0."""
    _check_step_size(recipe, data)
    device = resolve_device(recipe.train.device)
    steps = recipe.steps(windows_per_epoch=data.windows_per_epoch)
    if steps is None:
        raise UserError(
            "train.epochs counts passes over one source; this recipe mixes several.",
            fix="Say train.tokens or train.steps.",
        )
    tokens = {s.name: len(s.windows.stream) for s in data.training.sources}
    if refused := epochs_refusal(recipe, steps, tokens):
        raise refused
    model = GPT(recipe.model, seed=recipe.train.seed).to(device)
    model.activation_checkpointing = recipe.train.activation_checkpointing
    precision = choose_precision(recipe.train.precision, device, recipe.train.loss_scale)
    with precision.in_force():
        peak = peak_flops(device, precision.name)
    optimizers = build_optimizers(model, recipe.optim)
    config = LoopConfig(
        steps=steps,
        samples_per_step=recipe.samples_per_step,
        micro_batch=recipe.micro_batch,
        settings=recipe.settings(steps),
        eval_every=recipe.eval.every,
        sample_every=recipe.sample.every,
        saves=SavePlan(
            every=recipe.checkpoint.every,
            keep_every=recipe.checkpoint.keep_every,
            every_minutes=recipe.checkpoint.every_minutes,
            background=recipe.checkpoint.background,
        ),
        flops_per_token=flops_per_token(recipe.model),
        peak_flops=peak.flops,
        peak_measured=peak.measured,
        seed=recipe.train.seed,
        guard=recipe.guard,
        health_every=recipe.train.health_every,
    )
    state = TrainState(
        model=model,
        optimizers=optimizers,
        tokenizer=data.tokenizer,
        recipe_toml=recipe.to_toml(),
        progress=Progress(
            seed=recipe.train.seed,
            data_fingerprint=data.training.fingerprint,
            tokenizer_fingerprint=data.tokenizer.fingerprint,
            recipe_hash=recipe.hash,
            versions=versions() | {"precision": str(precision)} | optimizers.made_with(),
            threads=torch.get_num_threads(),
        ),
    )
    return Session(
        recipe=recipe,
        paths=paths,
        data=data,
        state=state,
        config=config,
        precision=precision,
        notes=[],
        resumed_from=None,
        lock=lock,
    )


def acquire(lock: FileLock, paths: RunPaths) -> None:
    """Makes sure that no other process trains the run; a killed one holds no lock."""
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"Another process is training {paths.root} at this moment.",
            fix="Wait for it, or stop it with Ctrl-C: it saves before it ends.",
        ) from None


def refuse_existing(paths: RunPaths) -> None:
    """A folder with anything in it but what a kill before the recipe was there left is a run."""
    root = paths.root
    left_behind = {paths.lock.name, f".{paths.recipe.name}.tmp"}
    if root.is_dir() and {path.name for path in root.iterdir()} <= left_behind:
        return
    if root.exists():
        raise UserError(
            f"{root} already exists; a run is never overwritten.",
            fix=f"Continue it with `fromscratch resume {shlex.quote(str(root))}`, or choose "
            "another --run.",
        )


def _check_step_size(recipe: Recipe, data: OpenedData) -> None:
    """A step that goes through all the text a hundred times is a slip of the finger."""
    tokens, step = data.training.tokens, recipe.train.tokens_per_step
    if step > 100 * max(tokens, recipe.model.context):
        raise UserError(
            f"train.tokens_per_step = {step:,} goes through the {tokens:,} training tokens "
            f"{step // tokens:,} times in one step.",
            fix="Choose a smaller step, or give more text.",
        )


def _check_space(recipe: Recipe, root: Path, steps: int | None) -> None:
    needed, free = checkpoints_disk_bytes(recipe, steps), free_bytes(root)
    if needed > free:
        raise UserError(
            f"The checkpoints of this run take up to {needed / 1e9:.1f} GB, and the disk of "
            f"{root} has {free / 1e9:.1f} GB free.",
            fix="Make room, choose another --run, or keep fewer with checkpoint.keep_last=1"
            + (" or a larger checkpoint.keep_every." if recipe.checkpoint.keep_every else "."),
        )
