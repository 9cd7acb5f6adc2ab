"""The one place that turns a recipe into objects.

`new_run` makes a run folder and `open_run` picks one up; both give a `Session`, which trains. What
is checked here, before anything is spent: that this release can do all the recipe asks, that the
data was made by the tokenizer the recipe names, that the disk has room for the checkpoints, that a
resumed run's data and settings are those it was started with.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from fromscratch import __version__
from fromscratch.checkpoint.state import Progress, TrainState
from fromscratch.checkpoint.store import CheckpointStore
from fromscratch.data.batches import ValidationSet
from fromscratch.evaluate.loss import evaluate_loss, sum_totals
from fromscratch.foundation.errors import Interrupted, UserError
from fromscratch.foundation.files import (
    CHECKPOINT_MANIFEST,
    CHECKPOINT_RECIPE,
    RunPaths,
    free_bytes,
    read_json_lines,
    step_of_folder,
    write_atomically,
)
from fromscratch.foundation.hardware import peak_flops, resolve_device
from fromscratch.foundation.world import World
from fromscratch.generate.engine import continue_text
from fromscratch.generate.sampling import SamplingOptions
from fromscratch.model.count import count_parameters, flops_per_token
from fromscratch.model.gpt import GPT
from fromscratch.optim.build import build_optimizers
from fromscratch.runs.opened_data import POOLED, OpenedData, open_data
from fromscratch.runs.planning import checkpoints_disk_bytes, not_yet
from fromscratch.runs.recipe import Recipe, SampleConfig, load_recipe
from fromscratch.tokenizer.tokenizer import Tokenizer
from fromscratch.track.jsonl import JsonlTracker, append_event
from fromscratch.track.tracker import Tracker, Trackers
from fromscratch.train.guard import StopSignal
from fromscratch.train.loop import Evaluation, LoopConfig, Sample, Trainer
from fromscratch.train.objectives import next_token_loss


@dataclass
class Session:
    """A run that is ready to train, from wherever it stands.

    Attributes:
        recipe: Resolved.
        paths: The run folder.
        data: What is trained and validated on.
        state: Weights, optimiser, progress.
        config: The loop's numbers.
        notes: What the person should know before it starts.
    """

    recipe: Recipe
    paths: RunPaths
    data: OpenedData
    state: TrainState
    config: LoopConfig
    notes: list[tuple[str, str]]
    resumed_from: Path | None
    _lock: FileLock

    def train(self, listeners: Sequence[Tracker] = ()) -> bool:
        """Trains to the end, or until a stop is asked for.

        Args:
            listeners: Trackers besides the run's own files.

        Returns:
            Whether the last step was reached.
        """
        progress = self.state.progress
        resumed = self.resumed_from is not None
        tracker = Trackers(list(listeners))
        try:
            with StopSignal() as stop:
                for name, message in self.notes:
                    tracker.event(name, progress.step, message, {})  # the files have them already
                files = JsonlTracker(
                    self.paths,
                    resumed_step=progress.step if resumed else None,
                    duties_done=progress.duties_done,
                )
                tracker = Trackers([files, *listeners])
                if resumed:
                    tracker.event("resumed", progress.step, f"from {self.resumed_from}", {})
                tracker.event("started", progress.step, self.recipe.name, self._describe())
                return Trainer(
                    self.state,
                    self.data.training,
                    next_token_loss,
                    _Duties(self),
                    self.config,
                    self._store(),
                    tracker,
                    stop,
                    autocast=_autocast(self.recipe, self.state.model.device),
                ).run()
        except Exception as error:
            what = (
                error.what if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            )
            tracker.event("failed", self.state.progress.step, what, {})
            if isinstance(error, OSError):
                raise _disk_error(self.paths, error) from error
            raise
        finally:
            tracker.close()
            self._lock.release()

    def note(self, name: str, message: str, **details: object) -> None:
        """Adds an event to the run after a training session has ended."""
        append_event(self.paths, name, self.state.progress.step, message, details)

    def _store(self) -> CheckpointStore:
        checkpoint = self.recipe.checkpoint
        return CheckpointStore(
            self.paths.checkpoints,
            keep_last=checkpoint.keep_last,
            keep_best=checkpoint.keep_best,
        )

    def _describe(self) -> dict[str, object]:
        counts = count_parameters(self.recipe.model)
        model = self.state.model
        return {
            "parameters": {
                "total": sum(p.numel() for p in model.parameters()),
                "non_embedding": counts.non_embedding,
            },
            "device": _device_name(model.device),
            "threads": torch.get_num_threads(),
            "versions": _versions(),
            "data": self.data.describe(),
            "steps": self.config.steps,
            "recipe_hash": self.recipe.hash,
        }


def new_run(recipe: Recipe, root: Path, *, report: Callable[[str, int], None]) -> Session:
    """Makes a run folder and everything to train in it.

    Args:
        recipe: What to run.
        root: The run folder; must not exist.
        report: Progress of data preparation: stage and documents.

    Raises:
        UserError: The folder exists, or the recipe cannot be run as it is.
    """
    paths = RunPaths(root)
    _refuse_existing(paths)
    check_supported(recipe)
    resolve_device(recipe.train.device)
    _check_space(recipe, root)
    data = open_data(recipe.data, recipe.model, recipe.eval.tokens, report)
    lock = FileLock(paths.lock)
    session = _session(recipe, paths, data, lock)
    root.mkdir(parents=True, exist_ok=True)
    _acquire(lock, paths)
    try:
        _refuse_existing(paths)  # somebody may have been faster
        write_atomically(paths.recipe, recipe.to_toml())
    except BaseException:
        lock.release()
        raise
    return session


def open_run(
    root: Path, overrides: Sequence[str] = (), *, report: Callable[[str, int], None]
) -> Session:
    """Picks up a run where its newest intact checkpoint stands.

    Args:
        root: The run folder.
        overrides: Deliberate changes of the recipe; recorded in events.jsonl.
        report: As for `new_run`.

    Raises:
        UserError: Not a run, another process trains it, its data changed, or nothing is intact.
    """
    paths = RunPaths(root)
    if not paths.recipe.is_file():
        raise UserError(
            f"{root} is not a run (it has no {paths.recipe.name}).",
            fix="Start one with `fromscratch train RECIPE --run RUN`.",
        )
    if (root / CHECKPOINT_MANIFEST).is_file():
        raise UserError(
            f"{root} is a checkpoint, not a run.", fix="Resume the run that it belongs to."
        )
    lock = FileLock(paths.lock)
    _acquire(lock, paths)
    try:
        return _pick_up(paths, lock, overrides, report)
    except OSError as error:
        lock.release()
        raise _disk_error(paths, error) from error
    except BaseException:
        lock.release()
        raise


def _pick_up(
    paths: RunPaths,
    lock: FileLock,
    overrides: Sequence[str],
    report: Callable[[str, int], None],
) -> Session:
    """`open_run` once the run is ours."""
    before = load_recipe(str(paths.recipe))
    recipe = load_recipe(str(paths.recipe), overrides)
    check_supported(recipe)
    data = open_data(recipe.data, recipe.model, recipe.eval.tokens, report)
    session = _session(recipe, paths, data, lock)
    now = session.state.progress

    def note(name: str, message: str, step: int) -> None:
        # On disk at once: a kill before training starts must not make it forgotten.
        append_event(paths, name, step, message, {})
        session.notes.append((name, message))

    def on_corrupt(folder: Path, problem: str) -> None:
        message = f"{folder.name} was put aside: {problem}; using the one before"
        note("checkpoint_corrupt", message, step_of_folder(folder.name) or 0)

    store = session._store()
    unfinished = store.discard_unfinished()
    checkpoint = store.newest_valid(on_corrupt)
    if checkpoint is None:
        _refuse_lost(paths)
        note("no_checkpoint", "killed before its first checkpoint: starting at step 0", 0)
    else:
        before = load_recipe(str(checkpoint / CHECKPOINT_RECIPE))
        session.state.read(checkpoint)
        session.resumed_from = checkpoint
        _check_same(session.state.progress, now, recipe, before)
    progress = session.state.progress
    for name in unfinished:
        note("unfinished_removed", f"{name} was being written when the run was killed", now.step)
    if progress.threads != now.threads:
        note(
            "threads_changed", "another number of CPU threads: the last bits differ", progress.step
        )
    if progress.versions != now.versions:
        changed = _differences(progress.versions, now.versions)
        note("versions_changed", f"{changed}: the last bits may differ", progress.step)
    # Against what the checkpoint was trained with: that is what the steps from here on differ from,
    # whether an override, an earlier one or an edit of the file says so (R37).
    if changed := _differences(_flat(before), _flat(recipe)):
        write_atomically(paths.recipe, recipe.to_toml())
        note("recipe_changed", changed, progress.step)
    if progress.data_fingerprint != now.data_fingerprint:
        note("data_changed", "other training data from here on", progress.step)
    for field in ("seed", "data_fingerprint", "recipe_hash", "threads", "versions"):
        setattr(progress, field, getattr(now, field))
    return session


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
    if world is not None and world.size > 1:
        raise UserError(
            f"torchrun started {world.size} processes, and this release trains in one.",
            fix="Start it without torchrun.",
        )


# --- parts ----------------------------------------------------------------------------------------


def _session(recipe: Recipe, paths: RunPaths, data: OpenedData, lock: FileLock) -> Session:
    device = resolve_device(recipe.train.device)
    steps = recipe.steps(windows_per_epoch=data.windows_per_epoch)
    if steps is None:
        raise UserError(
            "train.epochs counts passes over one source; this recipe mixes several.",
            fix="Say train.tokens or train.steps.",
        )
    model = GPT(recipe.model, seed=recipe.train.seed).to(device)
    dtype = torch.float32 if _precision(recipe, device) != "bf16" else torch.bfloat16
    if _precision(recipe, device) == "tf32":
        torch.set_float32_matmul_precision("high")
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
        peak_flops=peak_flops(device, dtype).flops,
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
            versions=_versions(),
            threads=torch.get_num_threads(),
        ),
    )
    return Session(
        recipe=recipe,
        paths=paths,
        data=data,
        state=state,
        config=config,
        notes=[],
        resumed_from=None,
        _lock=lock,
    )


def _acquire(lock: FileLock, paths: RunPaths) -> None:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            f"Another process is training {paths.root} at this moment.",
            fix="Wait for it, or stop it with Ctrl-C: it saves before it ends.",
        ) from None


def _refuse_existing(paths: RunPaths) -> None:
    """A folder with anything in it but what a kill before the recipe was there left is a run."""
    root = paths.root
    left_behind = {paths.lock.name, f".{paths.recipe.name}.tmp"}
    if root.is_dir() and {path.name for path in root.iterdir()} <= left_behind:
        return
    if root.exists():
        raise UserError(
            f"{root} already exists; a run is never overwritten.",
            fix=f"Continue it with `fromscratch resume {root}`, or choose another --run.",
        )


def _refuse_lost(paths: RunPaths) -> None:
    """A run whose rows say that it was trained has had checkpoints, from before its first step."""
    rows = read_json_lines(paths.metrics)
    trained = max((int(row["step"]) for row in rows if "loss" in row), default=0)
    if trained:
        raise UserError(
            f"{paths.root} was trained up to step {trained:,}, but its checkpoints are gone.",
            fix=f"Put them back into {paths.checkpoints}, or start a new run; nothing is trained "
            "from scratch in silence.",
        )


def _disk_error(paths: RunPaths, error: OSError) -> UserError:
    return UserError(
        f"{paths.root} cannot go on: {error}.",
        fix=f"Mend that (is the disk full?), then: fromscratch resume {paths.root}",
    )


def _flat(recipe: Recipe) -> dict[str, object]:
    """A recipe's settings by dotted key."""
    out: dict[str, object] = {}
    for table, values in recipe.model_dump().items():
        if isinstance(values, dict):
            out |= {f"{table}.{key}": value for key, value in values.items()}
        else:
            out[table] = values
    return out


def _differences(before: Mapping[str, object], now: Mapping[str, object]) -> str:
    """What changed, as `key=new (was old)`."""
    keys = dict.fromkeys((*before, *now))
    return ", ".join(
        f"{key}={now.get(key)} (was {before.get(key)})"
        for key in keys
        if before.get(key) != now.get(key)
    )


def _check_same(saved: Progress, now: Progress, recipe: Recipe, before: Recipe) -> None:
    """Refuses to go on with other data or another tokenizer than the checkpoint's."""
    if saved.tokenizer_fingerprint != now.tokenizer_fingerprint:
        raise UserError(
            "The data was prepared with another tokenizer than the one this run was trained with.",
            fix="Prepare it with the run's own: --tokenizer RUN/checkpoints/latest.",
        )
    decides = {"path", "source", "val_fraction", "documents", "seed"}
    on_purpose = recipe.data.model_dump(include=decides) != before.data.model_dump(include=decides)
    if saved.data_fingerprint != now.data_fingerprint and not on_purpose:
        raise UserError(
            f"The training data is not what this run was trained on (fingerprint "
            f"{now.data_fingerprint[:12]} instead of {saved.data_fingerprint[:12]}).",
            fix="Restore it, or say so on purpose with an override of data.path or data.source.",
        )


def _check_space(recipe: Recipe, root: Path) -> None:
    needed, free = checkpoints_disk_bytes(recipe), free_bytes(root)
    if needed > free:
        raise UserError(
            f"The checkpoints of this run take up to {needed / 1e9:.1f} GB, and the disk of "
            f"{root} has {free / 1e9:.1f} GB free.",
            fix="Make room, choose another --run, or keep fewer with checkpoint.keep_last=1.",
        )


def _precision(recipe: Recipe, device: torch.device) -> str:
    wanted = recipe.train.precision
    if wanted == "auto":
        bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16" if bf16 else "fp32"
    return wanted


def _autocast(recipe: Recipe, device: torch.device) -> Callable[[], AbstractContextManager[object]]:
    if _precision(recipe, device) != "bf16":
        return nullcontext
    return lambda: torch.autocast(device.type, dtype=torch.bfloat16)


def _versions() -> dict[str, str]:
    return {
        "fromscratch": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"


class _Duties:
    """Validation and samples of a run, on its uncompiled model."""

    def __init__(self, session: Session) -> None:
        self.model: GPT = session.state.model
        self.tokenizer: Tokenizer = session.data.tokenizer
        self.sets: list[ValidationSet] = session.data.validation
        self.batch_size = session.recipe.train.micro_batch
        self.config: SampleConfig = session.recipe.sample

    def validate(self, should_stop: Callable[[], bool]) -> list[Evaluation]:
        """Evaluates on every validation set."""
        totals = {
            data.name: evaluate_loss(
                self.model, data, batch_size=self.batch_size, should_stop=should_stop
            )
            for data in self.sets
        }
        if len(totals) > 1:
            totals = {POOLED: sum_totals(totals.values())} | totals
        return [
            Evaluation(name, t.loss, t.perplexity, t.bits_per_byte) for name, t in totals.items()
        ]

    def sample(self, should_stop: Callable[[], bool]) -> list[Sample]:
        """Continues the recipe's prompts."""
        config = self.config
        samples = []
        for number, prompt in enumerate(config.prompts):
            seed = config.seed + number
            options = SamplingOptions(config.temperature, config.top_k, seed=seed)
            pieces = []
            for piece in continue_text(
                self.model,
                self.tokenizer,
                prompt,
                max_new_tokens=config.max_new_tokens,
                options=options,
            ):
                if should_stop():
                    raise Interrupted
                pieces.append(piece)
            samples.append(Sample(prompt, "".join(pieces), seed))
        return samples
