"""The main job: a small model on text that is at hand, in a given number of minutes.

`plan_first_run` fits the shipped `try` recipe to the text and to this machine: the vocabulary to
what the text yields, the number of steps to the measured speed. The result is an ordinary recipe
with a fixed number of steps, so the run can be resumed, repeated and compared like any other.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path

from fromscratch.data.batches import TrainingData
from fromscratch.data.settling import default_val_fraction
from fromscratch.data.shards import Manifest, load_manifest
from fromscratch.data.sources import EMBEDDED, Source, name_for
from fromscratch.data.watching import Watch, unwatched
from fromscratch.evaluate.loss import evaluate_loss
from fromscratch.evaluate.yardsticks import Yardstick, yardsticks
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.hardware import resolve_device, synchronize
from fromscratch.foundation.host_memory import keep_freed_memory
from fromscratch.foundation.schedules import StepSettings
from fromscratch.model.gpt import GPT
from fromscratch.optim.build import build_optimizers
from fromscratch.runs.data_config import SourceConfig
from fromscratch.runs.opened_data import open_data, prepared_folders
from fromscratch.runs.recipe import Recipe
from fromscratch.runs.recipe_files import load_recipe
from fromscratch.runs.session import Session
from fromscratch.train.compiled import compile_blocks, wants_compiling
from fromscratch.train.objectives import next_token_loss
from fromscratch.train.precision import choose_precision
from fromscratch.train.step import train_step

_WARMUP_STEPS, _TIMED_STEPS = 3, 9


@dataclass(frozen=True)
class FirstRun:
    """What will be trained.

    Attributes:
        recipe: With its number of steps.
        data: The prepared folder.
        manifest: Of the data.
        step_seconds: Measured time of one update.
    """

    recipe: Recipe
    data: Path
    manifest: Manifest
    step_seconds: float


def plan_first_run(source: str, minutes: float, overrides: list[str], *, report: Watch) -> FirstRun:
    """Prepares the text, measures this machine, and settles the recipe.

    Args:
        source: `stdlib` or the user's own text.
        minutes: Of training.
        overrides: Of the `try` recipe; `train.steps` replaces the measurement.
        report: Told how the preparation goes.

    Raises:
        UserError: There is no text, or no time.
    """
    if not 0 < minutes < math.inf:
        raise UserError(f"--minutes {minutes:g} leaves no time to train.")
    settings = [f"data.path={json.dumps(source)}"]  # quoted: a folder may be called 2024
    if source != EMBEDDED:
        text = Source("text", source)
        settings += [
            'sample.prompts=["", "", ""]',  # the recipe's own prompts are Python
            f"data.val_fraction={default_val_fraction([text], least=0.02)}",
        ]
    settings += overrides
    recipe = load_recipe("try", settings)
    assert recipe.data.path is not None
    origin = SourceConfig(name=name_for(recipe.data.path), path=recipe.data.path)
    folder = prepared_folders([origin], recipe.data, report)[origin.name]
    manifest = load_manifest(folder)
    settings += [f"data.path={json.dumps(str(folder))}", f"model.vocab_size={manifest.vocab_size}"]
    recipe = load_recipe("try", settings)
    step_seconds = measure_step(recipe)
    if not any(o.startswith("train.steps=") for o in overrides):
        # A multiple of ten, so that the last of ten validations is the end of the run.
        steps = max(10, round(6 * minutes / step_seconds) * 10)
        settings += [
            f"train.steps={steps}",
            f"eval.every={max(1, steps // 10)}",
            f"sample.every={max(1, steps // 5)}",
            f"checkpoint.every={max(1, steps // 5)}",
            *overrides,
        ]
    return FirstRun(load_recipe("try", settings), folder, manifest, step_seconds)


def measure_step(recipe: Recipe) -> float:
    """Seconds of one update on this machine: the median of a few, on a model thrown away.

    As the run will make them: in its precision, compiled where it will be, in memory that is kept.
    """
    device = resolve_device(recipe.train.device)
    if device.type == "cpu":
        keep_freed_memory()
    precision = choose_precision(recipe.train.precision, device, recipe.train.loss_scale)
    data = _training_data(recipe)
    model = GPT(recipe.model, seed=recipe.train.seed).to(device)
    optimizers = build_optimizers(model, recipe.optim)
    if wants_compiling(recipe.train.compile, device):
        compile_blocks(model, recipe.micro_batch, autocast=precision.autocast)
    times = []
    with precision.in_force():
        for step in range(_WARMUP_STEPS + _TIMED_STEPS):
            begin = time.perf_counter()
            n_samples = recipe.samples_per_step
            batches = data.micro_batches(step * n_samples, n_samples, recipe.micro_batch)
            train_step(
                model,
                next_token_loss,
                optimizers,
                batches,
                settings=StepSettings(clip=recipe.optim.clip),
                autocast=precision.autocast,
                scaler=precision.scaler(None),
            )
            synchronize(device)
            times.append(time.perf_counter() - begin)
    return statistics.median(times[_WARMUP_STEPS:])


def _training_data(recipe: Recipe) -> TrainingData:
    # Prepared already: there is nothing to watch.
    return open_data(recipe.data, recipe.model, recipe.eval.tokens, unwatched).training


def next_free_run(name: str, parent: Path = Path("runs")) -> Path:
    """`runs/NAME`, or `runs/NAME-2` and so on where that exists: a run is never overwritten."""
    candidates = (parent / (name if i == 1 else f"{name}-{i}") for i in range(1, 10_000))
    return next(path for path in candidates if not path.exists())


@dataclass(frozen=True)
class FirstResult:
    """How a first run ended, on the whole held-out text.

    Attributes:
        yardsticks: From uniform to this model now, in bits per byte.
        loss: Nats per token.
        documents: Held-out documents.
        bytes: Their size.
    """

    yardsticks: list[Yardstick]
    loss: float
    documents: int
    bytes: int


def judge_first_run(session: Session) -> FirstResult:
    """Evaluates a finished run on all of its held-out text, beside the yardsticks.

    The yardsticks become an event of the run, for its report.
    """
    data = session.data
    everything = data.parts[0].windows("val", session.recipe.model.context)
    whole = replace(data.validation[0], windows=everything, max_tokens=0)
    now = evaluate_loss(session.state.model, whole, batch_size=session.config.micro_batch)
    train = data.parts[0].windows("train", session.recipe.model.context).stream
    rows = yardsticks(train, everything.stream, data.tokenizer)
    fresh = GPT(session.recipe.model, seed=session.recipe.train.seed).to(session.state.model.device)
    at_start = evaluate_loss(fresh, whole, batch_size=session.config.micro_batch)
    rows += [
        Yardstick("this model, at the start", at_start.bits_per_byte),
        Yardstick("this model, now", now.bits_per_byte),
    ]
    session.note(
        "yardsticks",
        "bits per byte of the held-out text",
        rows=[{"name": y.name, "bpb": y.bpb} for y in rows],
    )
    manifest = data.parts[0].manifest
    return FirstResult(rows, now.loss, manifest.total("documents", "val"), now.n_bytes)
