"""Tries a recipe out at full size in a process of its own, at one micro-batch after the other.

In: a recipe, and micro-batches to try. Out: `Trial`s, in the order in which they were made. Always
true: what a run is made of is in this process and untouched; when `Trials` is left, the other
process has ended and its memory is free again.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

import torch

from fromscratch.foundation.hardware import available_memory, resolve_device
from fromscratch.model.count import flops_per_token
from fromscratch.runs.recipe import Recipe

_CPU_SHARE = 0.9
"""Of the memory that is available on a CPU: other programs must live, too."""
_GPU_SHARE = 0.95
"""Of a GPU's: a long run fragments what a short one has not."""
_WORLD = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_PORT")


@dataclass(frozen=True)
class Job:
    """What to try.

    Attributes:
        recipe: As TOML.
        micro_batch: Windows at a time.
        duties: Whether samples and checkpoints are tried, too.
        tokenizer: Folder of the run's tokenizer; None for none, where nothing is sampled or saved.
        scratch: A folder to work in, emptied afterwards.
    """

    recipe: str
    micro_batch: int
    duties: bool
    tokenizer: str | None
    scratch: str


@dataclass(frozen=True)
class Outcome:
    """What a job took.

    Attributes:
        micro_seconds: Of the forward and backward pass of one micro-batch.
        update_seconds: Of the optimiser's step.
        val_tokens_per_s: Validated.
        peak_bytes: Of memory: on the GPU; else of the whole process.
        device: As the driver calls it.
        peak_flops: Of the device, in the job's precision.
        peak_measured: Whether that was measured.
        problem: Why nothing of this is known; None where all went well.
        out_of_memory: Whether that is for lack of memory.
    """

    micro_seconds: float = 0.0
    update_seconds: float = 0.0
    val_tokens_per_s: float = 0.0
    peak_bytes: int = 0
    device: str = ""
    peak_flops: float = 0.0
    peak_measured: bool = True
    problem: str | None = None
    out_of_memory: bool = False


@dataclass(frozen=True)
class Trial:
    """What a micro-batch of a recipe takes.

    Attributes:
        precision: `train.precision` of the recipe as tried.
        micro_batch: Windows at a time.
        step_seconds: Of the recipe's whole step, accumulation included.
        tokens_per_s: Trained, in such steps.
        val_tokens_per_s: Validated.
        peak_bytes: Of memory: on the GPU; else of the whole process.
        mfu: Share of the device's peak.
        peak_measured: Whether that peak was measured, or stands in a data sheet.
        device: As the driver calls it.
        problem: Why there are no numbers; None where there are.
        out_of_memory: Whether the problem is that it does not fit.
    """

    precision: str
    micro_batch: int
    step_seconds: float
    tokens_per_s: float
    val_tokens_per_s: float
    peak_bytes: int
    mfu: float
    peak_measured: bool
    device: str
    problem: str | None
    out_of_memory: bool


class Trials:
    """A context in which one recipe is tried out.

    Args:
        recipe: As it will be trained, but for `train.micro_batch`.
        beside: The trial's scratch folder is made here: on the disk that the run will be on.
        tokenizer: Folder of the run's tokenizer; given, samples and checkpoints are tried, too.
        allowed: Bytes that may be taken on a CPU; by default most of what is available.
    """

    def __init__(
        self,
        recipe: Recipe,
        scratch: Path,
        *,
        tokenizer: Path | None = None,
        allowed: int | None = None,
    ) -> None:
        self.recipe = recipe
        self.device = resolve_device(recipe.train.device)
        self.scratch = scratch
        self.tokenizer = tokenizer
        share = _CPU_SHARE if self.device.type == "cpu" else _GPU_SHARE
        self.room = int(share * available_memory(self.device)) if allowed is None else allowed
        self._process: subprocess.Popen[str] | None = None
        self._errors: IO[str] | None = None

    def __enter__(self) -> Trials:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def attempt(self, micro_batch: int) -> Trial:
        """Tries one micro-batch."""
        job = Job(
            recipe=self.recipe.with_micro_batch(micro_batch).to_toml(),
            micro_batch=micro_batch,
            duties=self.tokenizer is not None,
            tokenizer=None if self.tokenizer is None else str(self.tokenizer.resolve()),
            scratch=str(self.scratch.resolve()),
        )
        outcome = self._answer(job)
        too_much = outcome.problem is None and outcome.peak_bytes > self.room
        if too_much:
            problem = f"{outcome.peak_bytes / 1e9:.2f} GB of the {self.room / 1e9:.2f} there are"
        return self._trial(
            micro_batch,
            outcome,
            problem=problem if too_much else outcome.problem,
            out_of_memory=too_much or outcome.out_of_memory,
        )

    def _trial(
        self, micro_batch: int, outcome: Outcome, *, problem: str | None, out_of_memory: bool
    ) -> Trial:
        """From the parts of a step that were timed to the recipe's whole step."""
        recipe = self.recipe
        portions = recipe.samples_per_step // micro_batch
        seconds = portions * outcome.micro_seconds + outcome.update_seconds
        rate = recipe.train.tokens_per_step / seconds if seconds else 0.0
        used = rate * flops_per_token(recipe.model)
        return Trial(
            precision=recipe.train.precision,
            micro_batch=micro_batch,
            step_seconds=seconds,
            tokens_per_s=rate,
            val_tokens_per_s=outcome.val_tokens_per_s,
            peak_bytes=outcome.peak_bytes,
            mfu=used / outcome.peak_flops if outcome.peak_flops else 0.0,
            peak_measured=outcome.peak_measured,
            device=outcome.device,
            problem=problem,
            out_of_memory=out_of_memory,
        )

    def _answer(self, job: Job) -> Outcome:
        """The other process's answer; where it died, what that means."""
        process = self._start() if self._process is None else self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(asdict(job)) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if answer:
            return Outcome(**json.loads(answer))
        code = process.wait()
        assert self._errors is not None
        self._errors.seek(0)
        last = (self._errors.read().strip() or "it said nothing").splitlines()[-1]
        self._end()
        killed = code == -9  # by the system, for lack of memory: nobody else would
        said = "the system ended it for lack of memory" if killed else f"it died ({code}): {last}"
        return Outcome(problem=said, out_of_memory=killed)

    def _start(self) -> subprocess.Popen[str]:
        on_cpu = self.device.type == "cpu"
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "fromscratch.runs.trial_worker",
                str(torch.get_num_threads()),
                str(self.room if on_cpu else 0),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            encoding="utf-8",
            env={name: value for name, value in os.environ.items() if name not in _WORLD},
            start_new_session=True,  # Ctrl-C is for us; we end it
        )
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
        if self._errors is not None:
            self._errors.close()
            self._errors = None
