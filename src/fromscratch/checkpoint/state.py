"""Everything that a run is, between two steps: what a checkpoint holds and a resume restores.

Randomness needs no entry of its own: every random number is derived from the run's seed, its
purpose and the step (foundation/seeds.py), and both are here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from fromscratch.chat.template import Template
from fromscratch.checkpoint.bundle import read_model, write_model
from fromscratch.checkpoint.tensor_file import TensorFile, write_tensors
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import dump_json, read_json, write_atomically
from fromscratch.foundation.names import (
    CHECKPOINT_OPTIMIZER,
    CHECKPOINT_RECIPE,
    CHECKPOINT_STATE,
    CHECKPOINT_WEIGHTS,
)
from fromscratch.foundation.sharded import fill, is_sharded, whole_on_host
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.model.huggingface.mapping import join_padding
from fromscratch.optim.build import Optimizers
from fromscratch.tokenizer.tokenizer import Tokenizer

_PADDING = "padding."


@dataclass
class Progress:
    """Where a run stands after `step` updates.

    Attributes:
        step: Updates done.
        tokens: Targets trained on.
        sample: The cursor: number of the next training window of the run.
        seconds: Training time so far, over all sessions.
        seed: The run's seed, from which all randomness is derived.
        data_fingerprint: Of the training data and its mixture.
        tokenizer_fingerprint: Of the tokenizer that made it.
        recipe_hash: Of the resolved recipe.
        best_val_loss: The lowest validation loss so far, in nats per token; None before the first.
        best_step: Where it was reached.
        since_best: Validations since then.
        duties_done: Whether what is due at `step` besides the update (validation, samples) is done.
        refused_in_a_row: Updates that were refused since the last one made.
        skipped: Ranges of windows that are left out since a rollback (data/skipping.py).
        rollbacks: Of each, the step that the run was at and the one it went back to.
        guard: What the guards remember of the last updates (train/recent.py, train/watch.py).
        scaler: State of the fp16 loss scaler; None without one.
        versions: Of what computed this, for the record.
        threads: CPU threads that computed this: sums depend on them in the last bit.
        ranks: Processes that trained together: likewise, and each has dropout of its own.
        read: How often each text was gone through, by its hash, from the first weights on: by the
            models that this one was started from, too (data/consumption.py).
    """

    seed: int
    data_fingerprint: str
    tokenizer_fingerprint: str
    recipe_hash: str
    step: int = 0
    tokens: int = 0
    sample: int = 0
    seconds: float = 0.0
    best_val_loss: float | None = None
    best_step: int | None = None
    since_best: int = 0
    duties_done: bool = False
    refused_in_a_row: int = 0
    skipped: list[list[int]] = field(default_factory=list)
    rollbacks: list[list[int]] = field(default_factory=list)
    guard: dict[str, Any] = field(default_factory=dict)
    scaler: dict[str, float] | None = None
    versions: dict[str, str] = field(default_factory=dict)
    threads: int = 0
    ranks: int = 1
    read: dict[str, float] = field(default_factory=dict)

    def is_over(self, steps: int, patience: int) -> bool:
        """Whether a run of so many steps is at its end, or at an early one.

        Args:
            steps: Its last.
            patience: Validations without a new best that end it; 0 for no such end.
        """
        return self.step >= steps or 0 < patience <= self.since_best


@dataclass(frozen=True)
class Snapshot:
    """A state at one step, as named tensors and plain values: what a checkpoint is written from.

    Attributes:
        config: The model's.
        weights: The model's state dict.
        optimizer: The optimisers' state.
        tokenizer: Never changes.
        recipe_toml: The resolved recipe.
        progress: Where the run stands.
        template: How conversations are written for the model; never changes.
    """

    config: ModelConfig
    weights: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    tokenizer: Tokenizer
    recipe_toml: str
    progress: Progress
    template: Template | None = None

    def write(self, folder: Path) -> dict[str, str]:
        """Writes all of it into an empty checkpoint folder.

        Returns:
            sha256 of the files that were hashed and forced to the disk as they were written.

        Raises:
            OSError: The disk is full or failing.
        """
        padding, weights_sha256 = write_model(
            folder, self.config, self.weights, self.tokenizer, self.template
        )
        tensors = {_PADDING + name: rows for name, rows in padding.items()} | dict(self.optimizer)
        optimizer_sha256 = write_tensors(folder / CHECKPOINT_OPTIMIZER, tensors)
        write_atomically(folder / CHECKPOINT_RECIPE, self.recipe_toml)
        write_atomically(folder / CHECKPOINT_STATE, dump_json(asdict(self.progress), indent=1))
        return {CHECKPOINT_WEIGHTS: weights_sha256, CHECKPOINT_OPTIMIZER: optimizer_sha256}


@dataclass
class TrainState:
    """A run's model, optimisers, tokenizer, recipe and progress."""

    model: GPT
    optimizers: Optimizers
    tokenizer: Tokenizer
    recipe_toml: str
    progress: Progress
    template: Template | None = None

    @property
    def is_sharded(self) -> bool:
        """Whether each rank has a part of it only."""
        return any(is_sharded(parameter) for parameter in self.model.parameters())

    def now(self, *, keep: bool = True) -> Snapshot:
        """The state as it stands, with whole tensors.

        The tensors and the progress are the live ones, not copies; but those of a sharded state,
        for which every rank calls this, are gathered in the host's memory and are nobody else's.

        Args:
            keep: Whether this rank wants them; of a sharded state the others get none.
        """
        weights: Mapping[str, Tensor] = self.model.state_dict()
        optimizer: Mapping[str, Tensor] = self.optimizers.state()
        if self.is_sharded:
            weights = whole_on_host(weights, keep=keep)
            optimizer = whole_on_host(optimizer, keep=keep)
        return Snapshot(
            config=self.model.config,
            weights={name: t.detach() for name, t in weights.items()},
            optimizer=optimizer,
            tokenizer=self.tokenizer,
            recipe_toml=self.recipe_toml,
            progress=self.progress,
            template=self.template,
        )

    def write(self, folder: Path) -> dict[str, str]:
        """Writes all of it into an empty checkpoint folder, as `Snapshot.write` says."""
        return self.now().write(folder)

    def read(self, folder: Path) -> None:
        """Restores weights, optimiser state and progress in place, bit for bit.

        Files are read tensor by tensor, and the weights' are let go before the optimiser's are
        opened: a resume takes no more memory than the run (R39).

        Raises:
            UserError: The checkpoint belongs to another model, or has no training state.
        """
        if not (folder / CHECKPOINT_STATE).is_file():
            raise UserError(
                f"{folder} holds a model but no training state.",
                fix="Resume a run that fromscratch trained.",
            )
        self._read_weights(folder)
        self.optimizers.load_state(_Without(TensorFile(folder / CHECKPOINT_OPTIMIZER), _PADDING))
        content: dict[str, Any] = read_json(folder / CHECKPOINT_STATE)
        self.progress = Progress(**content)

    def _read_weights(self, folder: Path) -> None:
        """Copies the weights, with the padding's rows, into the model's own parameters."""
        beside = TensorFile(folder / CHECKPOINT_OPTIMIZER)
        padding = {
            name.removeprefix(_PADDING): beside[name]
            for name in beside
            if name.startswith(_PADDING)
        }
        config, state = read_model(folder)
        if config != self.model.config:
            raise UserError(
                f"The checkpoint {folder} holds a model of another shape than the recipe's.",
                fix="Resume with the recipe that the run was started with.",
            )
        weights, ours = join_padding(config, state, padding), self.model.state_dict()
        assert {n: t.shape for n, t in weights.items()} == {n: t.shape for n, t in ours.items()}
        for name, tensor in ours.items():  # of a sharded one each rank keeps its own rows
            fill(tensor, weights[name])


class _Without(Mapping[str, Tensor]):
    """A mapping without the names that begin with a prefix; tensors are still read one by one."""

    def __init__(self, tensors: Mapping[str, Tensor], prefix: str) -> None:
        self._tensors = tensors
        self._names = [name for name in tensors if not name.startswith(prefix)]

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
