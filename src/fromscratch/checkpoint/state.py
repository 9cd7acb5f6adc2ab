"""Everything that a run is, between two steps: what a checkpoint holds and a resume restores.

Randomness needs no entry of its own: every random number is derived from the run's seed, its
purpose and the step (foundation/seeds.py), and both are here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from fromscratch.checkpoint.bundle import load_model, load_tensors, save_model, save_tensors
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import (
    CHECKPOINT_OPTIMIZER,
    CHECKPOINT_RECIPE,
    CHECKPOINT_STATE,
    dump_json,
    read_json,
    write_atomically,
)
from fromscratch.foundation.sharded import fill, is_sharded, whole_on_host
from fromscratch.model.gpt import GPT
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
        duties_done: Whether what is due at `step` besides the update (validation, samples) is done.
        refused_in_a_row: Updates that were refused as not finite since the last one made.
        scaler: State of the fp16 loss scaler; None without one.
        versions: Of what computed this, for the record.
        threads: CPU threads that computed this: sums depend on them in the last bit.
        ranks: Processes that trained together: likewise, and each has dropout of its own.
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
    duties_done: bool = False
    refused_in_a_row: int = 0
    scaler: dict[str, float] | None = None
    versions: dict[str, str] = field(default_factory=dict)
    threads: int = 0
    ranks: int = 1


@dataclass(frozen=True)
class WholeTensors:
    """Weights and optimiser state of a sharded run, gathered on the host of one rank."""

    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]


@dataclass
class TrainState:
    """A run's model, optimisers, tokenizer, recipe and progress."""

    model: GPT
    optimizers: Optimizers
    tokenizer: Tokenizer
    recipe_toml: str
    progress: Progress

    @property
    def is_sharded(self) -> bool:
        """Whether each rank has a part of it only."""
        return any(is_sharded(parameter) for parameter in self.model.parameters())

    def gather(self, *, keep: bool) -> WholeTensors:
        """All of a sharded state: every rank calls this, before the one that keeps it writes.

        Args:
            keep: Whether this rank is that one.
        """
        return WholeTensors(
            whole_on_host(self.model.state_dict(), keep=keep),
            whole_on_host(self.optimizers.state(), keep=keep),
        )

    def write(self, folder: Path, whole: WholeTensors | None = None) -> None:
        """Writes all of it into an empty checkpoint folder.

        Args:
            folder: Where to.
            whole: What `gather` gave, of a sharded state.
        """
        weights = None if whole is None else whole.weights
        padding = save_model(folder, self.model, self.tokenizer, weights)
        tensors = self.optimizers.state() if whole is None else dict(whole.optimizer)
        tensors |= {_PADDING + name: rows for name, rows in padding.items()}
        save_tensors(folder / CHECKPOINT_OPTIMIZER, tensors)
        write_atomically(folder / CHECKPOINT_RECIPE, self.recipe_toml)
        write_atomically(folder / CHECKPOINT_STATE, dump_json(asdict(self.progress), indent=1))

    def read(self, folder: Path) -> None:
        """Restores weights, optimiser state and progress in place, bit for bit.

        Raises:
            UserError: The checkpoint belongs to another model, or has no training state.
        """
        if not (folder / CHECKPOINT_STATE).is_file():
            raise UserError(
                f"{folder} holds a model but no training state.",
                fix="Resume a run that fromscratch trained.",
            )
        tensors = load_tensors(folder / CHECKPOINT_OPTIMIZER)
        padding = {
            name.removeprefix(_PADDING): tensors.pop(name)
            for name in list(tensors)
            if name.startswith(_PADDING)
        }
        saved = load_model(folder, padding)
        if saved.config != self.model.config:
            raise UserError(
                f"The checkpoint {folder} holds a model of another shape than the recipe's.",
                fix="Resume with the recipe that the run was started with.",
            )
        weights = saved.state_dict()
        for name, tensor in self.model.state_dict().items():
            fill(tensor, weights[name])
        self.optimizers.load_state(tensors)
        content: dict[str, Any] = read_json(folder / CHECKPOINT_STATE)
        self.progress = Progress(**content)
