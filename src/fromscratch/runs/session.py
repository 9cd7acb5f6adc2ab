"""A run that is ready to train, and what it does on schedule."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path

import torch
from filelock import FileLock

from fromscratch import __version__
from fromscratch.chat.conversations import Message
from fromscratch.chat.rendering import prompt_ids, stop_ids
from fromscratch.checkpoint.state import TrainState
from fromscratch.checkpoint.store import CheckpointStore
from fromscratch.data.batches import ValidationSet
from fromscratch.evaluate.hellaswag import HellaSwag
from fromscratch.evaluate.loss import evaluate_loss, sum_totals
from fromscratch.evaluate.multiple_choice import tally
from fromscratch.evaluate.preference import evaluate_pairs
from fromscratch.foundation.errors import Interrupted, UserError
from fromscratch.foundation.hardware import device_name
from fromscratch.foundation.names import RunPaths
from fromscratch.generate.engine import continue_text, generate_ids
from fromscratch.generate.sampling import SamplingOptions
from fromscratch.generate.text import TextStream, text_until_stopped
from fromscratch.model.count import count_parameters
from fromscratch.model.gpt import GPT
from fromscratch.parallel.ranks import Ranks
from fromscratch.parallel.share import SharedModel
from fromscratch.runs.objectives import loss_of
from fromscratch.runs.opened_data import POOLED, OpenedData
from fromscratch.runs.recipe import Recipe, SampleConfig
from fromscratch.tokenizer.tokenizer import Tokenizer
from fromscratch.track.jsonl import JsonlTracker, append_event
from fromscratch.track.mirrors import open_mirrors
from fromscratch.track.tracker import Tracker, Trackers
from fromscratch.train.compiled import compile_blocks, wants_compiling
from fromscratch.train.duties import Evaluation, HellaSwagScore, Sample
from fromscratch.train.loop import LoopConfig, Trainer
from fromscratch.train.precision import Precision
from fromscratch.train.preference import PairLoss, PreferenceObjective
from fromscratch.train.stop_signal import StopSignal


@dataclass
class Session:
    """A run that is ready to train, from wherever it stands.

    Attributes:
        recipe: Resolved.
        paths: The run folder.
        data: What is trained and validated on.
        state: Weights, optimiser, progress.
        ranks: Who trains; rank 0 alone writes and speaks, all do the same otherwise.
        shared: The model as the ranks share it.
        config: The loop's numbers.
        precision: What it computes in.
        notes: What the person should know before it starts.
        hellaswag: What is answered on schedule; None for nothing.
    """

    recipe: Recipe
    paths: RunPaths
    data: OpenedData
    state: TrainState
    ranks: Ranks
    shared: SharedModel
    config: LoopConfig
    precision: Precision
    notes: list[tuple[str, str]]
    resumed_from: Path | None
    lock: FileLock
    hellaswag: HellaSwag | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to train, or to do at the step where it stands."""
        progress = self.state.progress
        over = progress.is_over(self.config.steps, self.config.patience)
        return over and progress.duties_done

    def train(self, listeners: Sequence[Tracker] = ()) -> bool:
        """Trains to the end, or until a stop is asked for.

        Args:
            listeners: Trackers besides the run's own files.

        Returns:
            Whether the last step was reached.
        """
        progress = self.state.progress
        resumed = self.resumed_from is not None
        listeners = listeners if self.ranks.is_main else ()
        tracker = Trackers(list(listeners))
        try:
            with StopSignal() as stop, self.precision.in_force():
                for name, message in self.notes:
                    tracker.event(name, progress.step, message, {})  # the files have them already
                if self.ranks.is_main:
                    files = JsonlTracker(
                        self.paths,
                        resumed_step=progress.step if resumed else None,
                        duties_done=progress.duties_done,
                    )
                    tracker = Trackers([files, *listeners])
                    # First in the list: what they say when they are closed is still written down.
                    mirrors = open_mirrors(
                        self.recipe.track,
                        self.paths,
                        recipe=self.recipe.model_dump(mode="json"),
                        report=tracker.event,
                    )
                    tracker = Trackers([*mirrors, files, *listeners])
                if resumed:
                    tracker.event("resumed", progress.step, f"from {self.resumed_from}", {})
                compiled = self._compile(tracker)
                about = self._describe() | {"compiled": compiled}
                tracker.event("started", progress.step, self.recipe.name, about)
                return Trainer(
                    self.state,
                    self.data.training,
                    loss_of(self.recipe),
                    _Duties(self),
                    self.config,
                    self.store(),
                    tracker,
                    stop,
                    precision=self.precision,
                    ranks=self.ranks,
                    shared=self.shared,
                ).run()
        except Exception as raised:
            error = self.ranks.explained(raised)
            what = (
                error.what if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            )
            tracker.event("failed", self.state.progress.step, what, {})
            if isinstance(error, OSError):
                raise disk_error(self.paths, error) from error
            if error is not raised:
                raise error from None
            raise
        finally:
            tracker.close()
            self.lock.release()

    def _compile(self, tracker: Tracker) -> bool:
        """Compiles the blocks where the recipe or the device asks for it (R41)."""
        model, config = self.state.model, self.config
        if not wants_compiling(self.recipe.train.compile, model.device):
            return False
        model.train()
        if self.state.is_sharded:
            problem: str | None = 'with parallel.mode = "fsdp" blocks run uncompiled'
        else:
            rows = config.micro_batch * self.recipe.rows_per_sample
            problem = compile_blocks(model, rows, autocast=self.precision.autocast)
        if problem is not None:
            tracker.event("not_compiled", self.state.progress.step, problem, {})
        return problem is None

    def note(self, name: str, message: str, **details: object) -> None:
        """Adds an event to the run after a training session has ended."""
        append_event(self.paths, name, self.state.progress.step, message, details)

    def store(self) -> CheckpointStore:
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
            "device": device_name(model.device),
            "precision": self.precision.name,
            "threads": torch.get_num_threads(),
            "peak": {
                "flops": self.config.peak_flops,
                "from": "a timed matrix product" if self.config.peak_measured else "data sheet",
            },
            "versions": versions(),
            "data": self.data.describe(),
            "steps": self.config.steps,
            "ranks": self.ranks.size,
            "recipe_hash": self.recipe.hash,
        } | ({} if self.hellaswag is None else {"hellaswag": self.hellaswag.describe()})


class _Duties:
    """Validation, HellaSwag and samples of a run, on its uncompiled model."""

    def __init__(self, session: Session) -> None:
        self.ranks = session.ranks
        objective = loss_of(session.recipe)
        self.pair_loss = objective.loss if isinstance(objective, PreferenceObjective) else None
        self.model: Callable[[], GPT] = session.shared.whole
        self.tokenizer: Tokenizer = session.data.tokenizer
        self.template = session.data.template
        self.sets: list[ValidationSet] = session.data.validation
        self.batch_size = session.recipe.micro_batch
        self.config: SampleConfig = session.recipe.sample
        self.questions = session.hellaswag
        # As many positions as training has at a time, which keeps much more of each.
        self.batch_tokens = session.recipe.micro_batch * session.recipe.model.context

    def validate(self, should_stop: Callable[[], bool]) -> list[Evaluation]:
        """Evaluates on every validation set, each rank on its part."""
        model = self.model()
        if self.pair_loss is not None:
            return self._compare(model, self.pair_loss, should_stop)
        totals = {
            data.name: evaluate_loss(
                model,
                data,
                batch_size=self.batch_size,
                should_stop=should_stop,
                ranks=self.ranks,
            )
            for data in self.sets
        }
        if totals and POOLED not in totals:
            totals = {POOLED: sum_totals(totals.values())} | totals
        return [
            Evaluation(name, t.loss, t.perplexity, t.bits_per_byte, t.n_targets)
            for name, t in totals.items()
        ]

    def _compare(
        self, model: GPT, loss: PairLoss, should_stop: Callable[[], bool]
    ) -> list[Evaluation]:
        """Evaluates on every validation set of pairs."""
        totals = {
            data.name: evaluate_pairs(
                model,
                data,
                loss,
                batch_size=self.batch_size,
                should_stop=should_stop,
                ranks=self.ranks,
            )
            for data in self.sets
        }
        if totals and POOLED not in totals:
            totals = {POOLED: reduce(add, totals.values())} | totals
        return [
            Evaluation(
                name,
                t.pairs.loss / t.pairs.n_pairs,
                t.chosen.perplexity,
                t.chosen.bits_per_byte,
                t.chosen.n_targets,
                t.pairs.means(),
            )
            for name, t in totals.items()
        ]

    def hellaswag(self, should_stop: Callable[[], bool]) -> HellaSwagScore:
        """Answers HellaSwag's questions, each rank its part."""
        assert self.questions is not None, "the loop asks where the recipe schedules it"
        result = tally(
            self.model(),
            self.questions.encoded,
            batch_tokens=self.batch_tokens,
            should_stop=should_stop,
            ranks=self.ranks,
        )
        return HellaSwagScore(result.acc, result.acc_norm, result.n, self.questions.style)

    def sample(self, should_stop: Callable[[], bool]) -> list[Sample]:
        """Continues the recipe's prompts, on rank 0; the others wait and have none."""
        model = self.model()
        samples: list[Sample] = []
        interrupted = False
        if self.ranks.is_main:
            try:
                samples = self._continuations(model, should_stop)
            except Interrupted:
                interrupted = True
        if self.ranks.any(interrupted):
            raise Interrupted
        return samples

    def _continuations(self, model: GPT, should_stop: Callable[[], bool]) -> list[Sample]:
        config = self.config
        samples = []
        for number, prompt in enumerate(config.prompts):
            seed = config.seed + number
            options = SamplingOptions(config.temperature, config.top_k, seed=seed)
            text = ""
            for piece in self._continued(model, prompt, options):
                if should_stop():
                    raise Interrupted
                text += piece
            samples.append(Sample(prompt, text, seed))
        return samples

    def _continued(self, model: GPT, prompt: str, options: SamplingOptions) -> Iterator[str]:
        """What follows a prompt: of a text, or, where there is a chat template, as an answer."""
        if self.template is None:
            return continue_text(
                model,
                self.tokenizer,
                prompt,
                max_new_tokens=self.config.max_new_tokens,
                options=options,
            )
        ids = generate_ids(
            model,
            prompt_ids(self.template, self.tokenizer, [Message("user", prompt)]),
            max_new_tokens=self.config.max_new_tokens,
            options=options,
            stop_ids=stop_ids(self.template, self.tokenizer),
        )
        return text_until_stopped(ids, TextStream(self.tokenizer, self.template.stop_texts))


def disk_error(paths: RunPaths, error: OSError) -> UserError:
    """What a person can do about a disk that refuses."""
    return UserError(
        f"{paths.root} cannot go on: {error}.",
        fix=f"Mend that (is the disk full?), then: fromscratch resume {paths.root}",
    )


def versions() -> dict[str, str]:
    """Of what computes: they are kept with a run."""
    return {
        "fromscratch": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
