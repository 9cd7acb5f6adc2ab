"""One process that tries a recipe out at full size and tells what it took.

In: jobs as lines of JSON on standard input. Out: for each a line of JSON on standard output. What
is tried is a run like any other, made by `build_session` and trained by `Session.train`, but on
made-up tokens, in a scratch folder, for a few steps: train, validate, and where the job says so
sample and save. The run that it is done for stays as it was: it is in another process.

Always holds: a job that does not fit in memory is answered with a sentence. On Linux the process
may take no more than it is allowed (RLIMIT_DATA), so that an allocation fails before the system
would have to kill something; should it come to that, this process offers itself first.
"""

from __future__ import annotations

import gc
import json
import os
import queue
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock

from fromscratch.checkpoint.store import CheckpointStore
from fromscratch.data.batches import TrainingData, TrainingSource, ValidationSet, Windows
from fromscratch.data.shards import Shard, TokenStream, stored_as
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.hardware import device_name, synchronize
from fromscratch.foundation.host_memory import peak_resident_bytes
from fromscratch.foundation.names import RunPaths, documents_file, shard_file
from fromscratch.model.count import count_parameters, flops_per_token
from fromscratch.parallel.ranks import Ranks
from fromscratch.runs.assemble import build_session
from fromscratch.runs.opened_data import POOLED, OpenedData
from fromscratch.runs.recipe import Recipe
from fromscratch.runs.recipe_files import parse_recipe
from fromscratch.runs.scheduled_hellaswag import find_hellaswag
from fromscratch.runs.session import Session
from fromscratch.runs.trials import Job, Outcome
from fromscratch.tokenizer.build import bytes_tokenizer
from fromscratch.tokenizer.tokenizer import load_tokenizer
from fromscratch.track.tracker import (
    HealthResult,
    HellaSwagResult,
    SampleResult,
    StepResult,
    ValidationResult,
)

_NEVER = 10**9
_SECONDS = 1.5
_PATIENCE = 10.0  # seconds of timed steps after which a device is slower than was guessed
_EFFICIENCY = 0.3  # a guess at the share of the peak, to choose a number of steps
_VALIDATION_BATCHES = 2
_QUESTIONS = 4  # of HellaSwag


def try_out(job: Job) -> Outcome:
    """Does a job; what goes wrong is in the outcome."""
    scratch = Path(job.scratch)
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        return _measure(job, scratch)
    except UserError as error:
        return Outcome(problem=str(error), out_of_memory=_is_memory(error.__cause__ or error))
    except (RuntimeError, MemoryError, OSError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        return Outcome(problem=first[:200], out_of_memory=_is_memory(error))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _is_memory(error: BaseException) -> bool:
    """Whether an allocation failed, as the GPU's allocator, the CPU's or Python says it."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    said = str(error).lower()
    words = ("out of memory", "can't allocate memory", "alloc_failed", "cannot allocate memory")
    return any(word in said for word in words)


def _measure(job: Job, scratch: Path) -> Outcome:
    recipe = parse_recipe(job.recipe, name="trial")
    windows = recipe.samples_per_step // job.micro_batch
    if recipe.has_pairs:  # of full rows: two each
        job = replace(job, micro_batch=job.micro_batch * recipe.rows_per_sample)
    portions = min(2, windows)
    session = _session(_trial_recipe(recipe, job, portions), job, scratch)
    device = session.state.model.device
    pass_seconds = (job.micro_batch * recipe.model.context * flops_per_token(recipe.model)) / (
        _EFFICIENCY * session.config.peak_flops
    )
    if portions == 2 and device.type == "cpu" and pass_seconds > _SECONDS:
        portions = 1
        session = _session(_trial_recipe(recipe, job, portions), job, scratch)
    timed = min(20, max(2, round(_SECONDS / (portions * pass_seconds))))
    if pass_seconds > 4 * _SECONDS:
        timed = 1
    session.config = replace(session.config, steps=1 + timed)
    clock = _Clock(session)
    _forget_peak(device)
    session.train([clock])
    peak = _peak_bytes(device)
    if portions == 1 and windows > 1:  # from the second portion on there are gradients besides
        peak += 4 * count_parameters(recipe.model).total
    step, update = clock.seconds()
    return Outcome(
        micro_seconds=max(step - update, 1e-9) / portions,
        update_seconds=update,
        val_tokens_per_s=clock.val_tokens_per_s,
        peak_bytes=peak,
        device=device_name(device),
        peak_flops=session.config.peak_flops,
        peak_measured=session.config.peak_measured,
    )


# --- a run on made-up data ------------------------------------------------------------------------


def _trial_recipe(recipe: Recipe, job: Job, portions: int) -> Recipe:
    """The recipe for a few steps of so many micro-batches, on data of its own."""
    values = recipe.model_dump(exclude_none=True)
    context = recipe.model.context
    for length in ("tokens", "epochs"):
        values["train"].pop(length, None)
    values["train"] |= {
        "steps": 2,
        "tokens_per_step": portions * job.micro_batch * context,
        "micro_batch": job.micro_batch,
        "phase": [],
    }
    finetunes = recipe.train.objective != "pretrain"
    mask = recipe.chat.packing if finetunes else recipe.data.document_mask
    # What is tried is time and memory, which the same rows of any text take.
    values["train"]["objective"] = "pretrain"
    values["chat"], values["base"] = {}, {}
    values["data"] = {"path": "made up", "document_mask": mask}
    values["schedule"] = {"name": "constant"}
    if recipe.has_pairs:  # on made-up text, its rows take what pairs would at their longest
        values["train"]["objective"] = "pretrain"
        for table in ("chat", "base", "preference"):
            del values[table]
    values["eval"] |= {
        "every": 0,
        "patience": 0,
        "tokens": _VALIDATION_BATCHES * job.micro_batch * context,
        "hellaswag_every": _NEVER if job.duties and recipe.eval.hellaswag_every else 0,
        "hellaswag_items": _QUESTIONS,
    }
    values["sample"] |= {
        "every": _NEVER if job.duties and recipe.sample.every else 0,
        "max_new_tokens": min(4, recipe.sample.max_new_tokens),
    }
    values["checkpoint"] |= {"every": _NEVER, "keep_last": 1, "keep_best": False}
    values["track"] = {}
    return Recipe(**values)


def _session(recipe: Recipe, job: Job, scratch: Path) -> Session:
    paths = RunPaths(scratch / "run")
    paths.root.mkdir(exist_ok=True)
    data, lock = _made_up(recipe, job, scratch), FileLock(paths.lock)
    questions = find_hellaswag(recipe.eval, Ranks())
    built = build_session(recipe, paths, data, lock, Ranks(), questions)
    return built if job.duties else _Unsaved(**{f.name: getattr(built, f.name) for f in _FIELDS})


_FIELDS = fields(Session)


class _Unsaved(Session):
    """A session whose checkpoints go nowhere: for timing, where saving has been tried already."""

    def store(self) -> CheckpointStore:
        return _NoStore(self.paths.checkpoints)


class _NoStore(CheckpointStore):
    """Commits nothing."""

    def save(self, *args: Any, **options: Any) -> Path:
        return self.root


def _made_up(recipe: Recipe, job: Job, scratch: Path) -> OpenedData:
    """Tokens that are about as unequally frequent as words (Zipf), for a step and a validation."""
    vocabulary, context = recipe.model.vocab_size, recipe.model.context
    length = max(2, 2 * job.micro_batch) * context
    draw = np.random.default_rng(0)
    ids = np.minimum(vocabulary ** draw.random(length), vocabulary - 1).astype(np.int64)
    tokenizer = bytes_tokenizer() if job.tokenizer is None else load_tokenizer(Path(job.tokenizer))
    eot = min(tokenizer.eot_id, vocabulary - 1)
    ids[draw.random(length) < 1 / 512] = eot
    shard = Shard(
        file=shard_file("train", 0),
        documents_file=documents_file("train", 0),
        split="train",
        source="made up",
        tokens=length,
        documents=1,
        bytes=length,
        sha256="",
    )
    np.save(scratch / shard.file, ids.astype(stored_as(vocabulary)))
    windows = Windows(TokenStream(scratch, [shard]), context)
    seen = eot if recipe.data.document_mask else None
    return OpenedData(
        training=TrainingData(
            [TrainingSource("made up", 1.0, windows, "made up")], seed=0, eot_id=seen
        ),
        validation=[
            ValidationSet(
                POOLED, windows, np.ones(vocabulary, dtype=np.int64), seen, recipe.eval.tokens
            )
        ],
        tokenizer=tokenizer,
        parts=[],
        windows_per_epoch=len(windows),
        warnings=[],
    )


# --- time and memory ------------------------------------------------------------------------------


class _Clock:
    """Listens to a session: when steps end, how long the optimiser takes, how long validation."""

    def __init__(self, session: Session) -> None:
        self.device = session.state.model.device
        self.val_tokens_per_s = 0.0
        self._ends: list[float] = []
        self._updates: list[float] = []
        self._update_began = 0.0
        self._members = len(session.state.optimizers.members)
        for member in session.state.optimizers.members:
            member.optimizer.register_step_pre_hook(self._begin)
            member.optimizer.register_step_post_hook(self._end)

    def seconds(self) -> tuple[float, float]:
        """Of a step, and of the optimiser's part of it; the first step, which warms up, aside."""
        steps = np.diff(self._ends)
        updates = [
            sum(self._updates[i : i + self._members])
            for i in range(0, len(self._updates), self._members)
        ]
        update = float(np.median(updates[1:] or updates or [0.0]))
        return float(np.median(steps)), update

    def _now(self) -> float:
        synchronize(self.device)
        return time.perf_counter()

    def _begin(self, *_: Any) -> None:
        self._update_began = self._now()

    def _end(self, *_: Any) -> None:
        self._updates.append(self._now() - self._update_began)

    def step(self, result: StepResult) -> None:
        self._ends.append(self._now())
        if len(self._ends) > 1 and self._ends[-1] - self._ends[0] > _PATIENCE:
            signal.raise_signal(signal.SIGTERM)  # as a person would end a run: it saves and stops

    def validation(self, result: ValidationResult) -> None:
        self.val_tokens_per_s = result.val_tokens / max(result.eval_seconds, 1e-9)

    def hellaswag(self, result: HellaSwagResult) -> None:
        """Only that it can be had matters."""

    def sample(self, result: SampleResult) -> None:
        """Likewise."""

    def health(self, result: HealthResult) -> None:
        """Part of a step's time, as in a run."""

    def rewind(self, step: int, *, duties_done: bool) -> None:
        """A trial does not go back."""

    def event(self, name: str, step: int, message: str, details: dict[str, Any]) -> None:
        """Nor what is said of it."""

    def flush(self) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing is open."""


def _forget_peak(device: torch.device) -> None:
    """From here on the peak counts anew."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):  # proc(5): 5 resets the peak resident size; Linux only
        Path("/proc/self/clear_refs").write_text("5")


def _peak_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    return peak_resident_bytes() or 0


def _limit_memory(allowed: int) -> None:
    """Lets allocations fail once the process has grown by so much; Linux only."""
    with suppress(OSError, ValueError, ImportError, StopIteration):
        import resource

        with open("/proc/self/status", encoding="utf-8") as lines:
            now = int(next(line for line in lines if line.startswith("VmData")).split()[1]) * 1024
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limit = now + allowed if hard == resource.RLIM_INFINITY else min(now + allowed, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _jobs() -> Iterator[Job]:
    """Jobs as they come; ends the process, also in the midst of one, when nobody will send more.

    Whoever sends them ends this process when it is done; that there is nobody any more means that
    it was killed, and what it asked for is of no use.
    """
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    scratch: list[Path] = []

    def read() -> None:
        for line in sys.stdin:
            lines.put(line)
        for folder in scratch:
            shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)

    threading.Thread(target=read, daemon=True).start()
    while True:
        job = Job(**json.loads(lines.get()))
        scratch[:] = [Path(job.scratch)]
        yield job


def main() -> None:
    """Answers jobs for ever; arguments: threads, and bytes allowed (0: no limit)."""
    threads, allowed = (int(word) for word in sys.argv[1:3])
    torch.set_num_threads(threads)
    if allowed:
        _limit_memory(allowed)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever else prints must not come between
    for job in _jobs():
        outcome = try_out(job)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        print(json.dumps(asdict(outcome)), file=answers, flush=True)


if __name__ == "__main__":
    main()
