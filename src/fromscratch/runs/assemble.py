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
from fromscratch.data.watching import Watch
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import (
    RunPaths,
    free_bytes,
    write_atomically,
)
from fromscratch.foundation.hardware import peak_flops
from fromscratch.model.count import flops_per_token
from fromscratch.model.gpt import GPT
from fromscratch.optim.build import build_optimizers
from fromscratch.parallel.device import device_of_rank
from fromscratch.parallel.ranks import Ranks
from fromscratch.parallel.share import share
from fromscratch.runs.mixture_plan import epochs_refusal, mixture_warnings
from fromscratch.runs.opened_data import OpenedData, open_data
from fromscratch.runs.planning import checkpoints_disk_bytes, not_yet
from fromscratch.runs.recipe import Recipe
from fromscratch.runs.session import Session, precision_of, versions
from fromscratch.track.jsonl import append_event
from fromscratch.train.loop import LoopConfig


def new_run(recipe: Recipe, root: Path, *, report: Watch, ranks: Ranks | None = None) -> Session:
    """Makes a run folder and everything to train in it.

    Args:
        recipe: What to run.
        root: The run folder; must not exist.
        report: Told how the preparation of data goes.
        ranks: Who trains it; this process alone when left out. Rank 0 prepares the data and makes
            the folder.

    Raises:
        UserError: The folder exists, or the recipe cannot be run as it is.
    """
    ranks = Ranks() if ranks is None else ranks
    paths = RunPaths(root)
    ranks.from_main(lambda: refuse_existing(paths))
    check_supported(recipe)
    check_shares(recipe, ranks)
    device_of_rank(recipe.train.device, ranks.world)
    ranks.from_main(lambda: _check_space(recipe, root))
    data = ranks.main_first(
        lambda: open_data(recipe.data, recipe.model, recipe.eval.tokens, report)
    )
    placed = recipe.on_data(data.folders)
    session = build_session(placed, paths, data, FileLock(paths.lock), ranks)
    ranks.from_main(lambda: _make_folder(session))
    return session


def _make_folder(session: Session) -> None:
    """The run's folder with its recipe, and what the person should know before it starts."""
    paths, recipe, lock = session.paths, session.recipe, session.lock
    paths.root.mkdir(parents=True, exist_ok=True)
    acquire(lock, paths)
    try:
        refuse_existing(paths)  # somebody may have been faster
        write_atomically(paths.recipe, recipe.to_toml())
        notes = (*session.data.warnings, *mixture_notes(recipe, session.config.steps))
        for name, message in (*notes, *alone_notes(recipe, session.ranks)):
            append_event(paths, name, 0, message, {})
            session.notes.append((name, message))
    except BaseException:
        lock.release()
        raise


def alone_notes(recipe: Recipe, ranks: Ranks) -> list[tuple[str, str]]:
    """What a setting for several processes does in one: nothing."""
    if recipe.parallel.mode == "fsdp" and not ranks.world.launched:
        return [("parallel", 'parallel.mode = "fsdp" has no effect in one process (see torchrun)')]
    return []


def mixture_notes(recipe: Recipe, steps: int) -> list[tuple[str, str]]:
    """Name and sentence of what the stages of a mixture probably do not mean (R01)."""
    return [("mixture", sentence) for sentence in mixture_warnings(recipe, steps)]


def check_supported(recipe: Recipe) -> None:
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


def check_shares(recipe: Recipe, ranks: Ranks) -> None:
    """Refuses a number of processes that the windows of a step cannot be dealt out to."""
    samples, micro, size = recipe.samples_per_step, recipe.train.micro_batch, ranks.size
    if samples % (size * micro) == 0:
        return
    of_processes = _divisors(samples // micro)
    fix = f"With this micro-batch: {of_processes} processes."
    if samples % size == 0:
        fix += f" With {size} processes, train.micro_batch: {_divisors(samples // size)}."
    raise UserError(
        f"The {samples:,} windows of a step (train.tokens_per_step / model.context) cannot be "
        f"dealt out to {size} processes with train.micro_batch = {micro}.",
        fix=fix,
    )


def _divisors(number: int) -> str:
    found = [n for n in range(1, min(number, 10_000) + 1) if number % n == 0]
    return ", ".join(map(str, found[:24]))


# --- parts ----------------------------------------------------------------------------------------


def build_session(
    recipe: Recipe, paths: RunPaths, data: OpenedData, lock: FileLock, ranks: Ranks
) -> Session:
    """Model, optimisers and the loop's numbers, at step 0."""
    _check_step_size(recipe, data)
    device = device_of_rank(recipe.train.device, ranks.world)
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
    dtype = torch.float32 if precision_of(recipe, device) != "bf16" else torch.bfloat16
    if precision_of(recipe, device) == "tf32":
        torch.set_float32_matmul_precision("high")
    shared = share(
        model,
        launched=ranks.world.launched,
        mode=recipe.parallel.mode,
        half=dtype if dtype != torch.float32 else None,
    )
    config = LoopConfig(
        steps=steps,
        samples_per_step=recipe.samples_per_step,
        micro_batch=recipe.train.micro_batch,
        schedule=recipe.lr_schedule(steps),
        lr=recipe.optim.lr,
        clip=recipe.optim.clip,
        eval_every=recipe.eval.every,
        sample_every=recipe.sample.every,
        checkpoint_every=recipe.checkpoint.every,
        flops_per_token=flops_per_token(recipe.model),
        peak_flops=ranks.size * peak_flops(device, dtype).flops,
        seed=recipe.train.seed,
    )
    state = TrainState(
        model=model,
        optimizers=build_optimizers(model, recipe.optim),
        tokenizer=data.tokenizer,
        recipe_toml=recipe.to_toml(),
        progress=Progress(
            seed=recipe.train.seed,
            data_fingerprint=data.training.fingerprint,
            tokenizer_fingerprint=data.tokenizer.fingerprint,
            recipe_hash=recipe.hash,
            versions=versions(),
            threads=torch.get_num_threads(),
            ranks=ranks.size,
        ),
    )
    return Session(
        recipe=recipe,
        paths=paths,
        data=data,
        state=state,
        ranks=ranks,
        shared=shared,
        config=config,
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


def _check_space(recipe: Recipe, root: Path) -> None:
    needed, free = checkpoints_disk_bytes(recipe), free_bytes(root)
    if needed > free:
        raise UserError(
            f"The checkpoints of this run take up to {needed / 1e9:.1f} GB, and the disk of "
            f"{root} has {free / 1e9:.1f} GB free.",
            fix="Make room, choose another --run, or keep fewer with checkpoint.keep_last=1.",
        )
