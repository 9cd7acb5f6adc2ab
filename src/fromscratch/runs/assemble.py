"""The one place that turns a recipe into objects.

`new_run` makes a run folder and gives a `Session`, which trains; pick_up.py gives one of a run
that exists. What is checked here, before anything is spent: that what the recipe asks for is there,
that its processes can share it, that the data was made by the tokenizer it names, that the disk has
room for the checkpoints.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from fromscratch.checkpoint.state import Progress, TrainState
from fromscratch.data.consumption import read_before
from fromscratch.data.watching import Remark, Watch
from fromscratch.evaluate.hellaswag_items import HellaSwagItem
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import free_bytes, temporary_name, write_atomically
from fromscratch.foundation.hardware import peak_flops
from fromscratch.foundation.host_memory import keep_freed_memory
from fromscratch.foundation.names import RunPaths
from fromscratch.model.count import flops_per_token
from fromscratch.model.gpt import GPT
from fromscratch.optim.adamw8bit import choose_engine
from fromscratch.optim.build import build_optimizers
from fromscratch.parallel.device import device_of_rank
from fromscratch.parallel.ranks import Ranks
from fromscratch.parallel.share import share
from fromscratch.runs.mixture_plan import epochs_refusal
from fromscratch.runs.objectives import open_training_data
from fromscratch.runs.opened_data import OpenedData
from fromscratch.runs.planning import checkpoints_disk_bytes
from fromscratch.runs.recipe import Recipe
from fromscratch.runs.reference import ready_reference
from fromscratch.runs.scheduled_hellaswag import (
    find_hellaswag,
    ready_hellaswag,
    wherever_it_is_resumed,
)
from fromscratch.runs.session import Session, versions
from fromscratch.runs.sharing import alone_notes, check_sharing, settle_for_all
from fromscratch.runs.starting_model import (
    consumed_notes,
    fill_from_base,
    read_by,
    template_of,
    unfinetuned_notes,
)
from fromscratch.track.jsonl import append_event
from fromscratch.track.mirrors import refuse_missing_trackers
from fromscratch.train.loop import LoopConfig
from fromscratch.train.precision import choose_precision
from fromscratch.train.saver import SavePlan

ADVICE = "doctor"
"""What the advisor's events are called."""
Advisor = Callable[[Recipe, int], Sequence[str]]
"""Looks at a recipe and its number of steps, and says what the person would regret: the doctor."""


def unadvised(recipe: Recipe, steps: int) -> Sequence[str]:
    """For runs that nobody chose the settings of: the trials of a sweep."""
    return ()


def new_run(
    recipe: Recipe,
    root: Path,
    *,
    report: Watch,
    ranks: Ranks | None = None,
    advise: Advisor = unadvised,
    expect: Callable[[Session], str] | None = None,
) -> Session:
    """Makes a run folder and everything to train in it.

    Args:
        recipe: What to run.
        root: The run folder; must not exist.
        report: Told how the preparation of data goes.
        ranks: Who trains it; this process alone when left out. Rank 0 prepares the data and makes
            the folder.
        advise: Asked once, before anything is spent; what it says is written into the run.
        expect: Makes the run's prediction.json, where something is expected of it.

    Raises:
        UserError: The folder exists, or the recipe cannot be run as it is.
    """
    ranks = Ranks() if ranks is None else ranks
    paths, asked = RunPaths(root), recipe
    ranks.from_main(lambda: refuse_existing(paths))
    check_supported(recipe)
    check_sharing(recipe, ranks)
    check_device(recipe, ranks)
    ranks.from_main(lambda: _check_space(recipe, root, recipe.steps()))
    questions = find_hellaswag(recipe.eval, ranks)
    recipe = wherever_it_is_resumed(recipe)
    data = ranks.main_first(lambda: open_training_data(recipe, report))
    settled = settle_for_all(
        recipe.on_data(data.folders),
        root,
        data.tokenizer_folder,
        ranks,
        say=lambda s: report(Remark(s)),
    )
    lock = FileLock(paths.lock)
    session = build_session(settled.recipe, paths, data, lock, ranks, questions, from_base=True)
    advised = ranks.from_main(lambda: advise(session.recipe, session.config.steps))
    # Before the folder is there: who interrupts this gives the same command again.
    reference = ready_reference(session, report)
    expected = ranks.from_main(lambda: None if expect is None else expect(session))
    notes = [*settled.notes, *((ADVICE, said) for said in advised)]
    ranks.from_main(lambda: _make_folder(session, asked, notes, reference, expected))
    return session


def _make_folder(
    session: Session,
    asked: Recipe,
    settled: list[tuple[str, str]],
    reference: bytes | None,
    expected: str | None,
) -> None:
    """The run's folder with its recipe, and what the person should know before it starts."""
    paths, recipe, lock = session.paths, session.recipe, session.lock
    # An epoch's length is known only now.
    _check_space(recipe, paths.root, session.config.steps)
    paths.root.mkdir(parents=True, exist_ok=True)
    acquire(lock, paths)
    try:
        refuse_existing(paths)  # somebody may have been faster
        write_atomically(paths.asked, asked.to_toml())
        write_atomically(paths.recipe, recipe.to_toml())
        if reference is not None:
            write_atomically(paths.reference, reference)
        if expected is not None:
            write_atomically(paths.prediction, expected)
        notes = (
            *session.data.warnings,
            *consumed_notes(
                recipe,
                session.data.training,
                read_before(session.state.progress.read, session.data.training),
                model=recipe.base.model,
            ),
            *unfinetuned_notes(recipe),
            *settled,
            *precision_notes(session),
            *alone_notes(recipe, session.ranks),
        )
        for name, message in notes:
            append_event(paths, name, 0, message, {})
            session.notes.append((name, message))
    except BaseException:
        lock.release()
        raise


def precision_notes(session: Session) -> list[tuple[str, str]]:
    """Name and sentence of what its precision does not do on this device, or does badly."""
    return [("precision", sentence) for sentence in session.precision.notes()]


def check_device(recipe: Recipe, ranks: Ranks) -> None:
    """Refuses a device that is not there, and what it or what is installed cannot do.

    Raises:
        UserError: Says which.
    """
    device = device_of_rank(recipe.train.device, ranks.world)
    choose_precision(recipe.train.precision, device)
    if recipe.optim.name == "adamw8bit":
        choose_engine(recipe.optim.engine, device)


def check_supported(recipe: Recipe) -> None:
    """Refuses a recipe that cannot be run: on nothing, or with what is not installed.

    Raises:
        UserError: Says what is missing.
    """
    if recipe.data.path is None and not recipe.data.source:
        raise UserError(
            f'The recipe "{recipe.name}" does not say what to train on.',
            fix="Give data.path=FOLDER (prepared data or text files).",
        )
    refuse_missing_trackers(recipe.track)


# --- parts ----------------------------------------------------------------------------------------


def build_session(
    recipe: Recipe,
    paths: RunPaths,
    data: OpenedData,
    lock: FileLock,
    ranks: Ranks,
    questions: Sequence[HellaSwagItem] = (),
    *,
    from_base: bool = False,
) -> Session:
    """Model, optimisers and the loop's numbers, at step 0.

    Args:
        recipe: Settled.
        paths: The run folder.
        data: The recipe's, opened.
        lock: The run's.
        ranks: Who trains it.
        questions: `find_hellaswag`'s.
        from_base: Whether the model begins with the weights of the one that the recipe starts
            from, if it does; else a checkpoint will be read into it.

    Raises:
        UserError: They do not go together.
    """
    _check_step_size(recipe, data)
    hellaswag = ready_hellaswag(recipe.eval, questions, data.tokenizer)
    device = device_of_rank(recipe.train.device, ranks.world)
    if device.type == "cpu":
        keep_freed_memory()
    steps = recipe.steps(windows_per_epoch=data.windows_per_epoch)
    if steps is None:
        raise UserError(
            "train.epochs counts passes over one source; this recipe mixes several.",
            fix="Say train.tokens or train.steps.",
        )
    tokens = {s.name: s.windows.n_tokens for s in data.training.sources}
    if refused := epochs_refusal(recipe, steps, tokens):
        raise refused
    model = GPT(recipe.model, seed=recipe.train.seed).to(device)
    if from_base and recipe.base.model:
        fill_from_base(model, recipe, data.tokenizer)
    model.activation_checkpointing = recipe.train.activation_checkpointing
    precision = choose_precision(recipe.train.precision, device, recipe.train.loss_scale)
    peak = peak_flops(device, precision.name)
    shared = share(
        model,
        launched=ranks.world.launched,
        mode=recipe.parallel.mode,
        half=None if precision.dtype == torch.float32 else precision.dtype,
    )
    # Of the parameters as they are now: sharing may have replaced them.
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
        peak_flops=ranks.size * peak.flops,
        peak_measured=peak.measured,
        seed=recipe.train.seed,
        guard=recipe.guard,
        health_every=recipe.train.health_every,
        hellaswag_every=recipe.eval.hellaswag_every,
        patience=recipe.eval.patience,
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
            ranks=ranks.size,
            read=read_by(recipe.base.model) if from_base else {},
        ),
        template=template_of(recipe),
    )
    return Session(
        recipe=recipe,
        paths=paths,
        data=data,
        state=state,
        ranks=ranks,
        shared=shared,
        config=config,
        precision=precision,
        notes=[],
        resumed_from=None,
        lock=lock,
        hellaswag=hellaswag,
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
    left_behind = {paths.lock.name, paths.asked.name}
    left_behind |= {temporary_name(path.name) for path in (paths.recipe, paths.asked)}
    if root.is_dir() and {path.name for path in root.iterdir()} <= left_behind:
        return
    if root.exists():
        raise UserError(
            f"{root} already exists; a run is never overwritten.",
            fix=f"Continue it with `fromscratch resume {shlex.quote(str(root))}`, or choose "
            "another --run; `train --or-resume` starts a run or goes on with it.",
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
            regret="R35",
        )
