"""Which checkpoint a run goes back to."""

from pathlib import Path

import pytest
import torch

from fromscratch.checkpoint.state import Progress, TrainState
from fromscratch.checkpoint.store import CheckpointStore
from fromscratch.foundation.errors import UserError
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.optim.build import build_optimizers
from fromscratch.optim.config import OptimConfig
from fromscratch.parallel.ranks import Ranks
from fromscratch.tokenizer.build import bytes_tokenizer
from fromscratch.train.rollback import commit_rollback, roll_back

SIZE = 8
"""Windows in a step."""


@pytest.fixture
def run(tmp_path: Path) -> tuple[TrainState, CheckpointStore]:
    """A state at step 23, and checkpoints at 10, 12 (of an interruption), 15, 20 and 22."""
    config = ModelConfig(n_layer=1, n_head=2, d_model=16, context=12, vocab_size=257)
    model = GPT(config, seed=3)
    state = TrainState(
        model, build_optimizers(model, OptimConfig()), bytes_tokenizer(), "",
        Progress(seed=1, data_fingerprint="d", tokenizer_fingerprint="t", recipe_hash="r"),
    )  # fmt: skip
    store = CheckpointStore(tmp_path / "checkpoints", keep_last=9)
    for step in (10, 12, 15, 20, 22):
        at(state, step)
        state.progress.refused_in_a_row = max(0, step - 20)
        store.save(step, state.write)
    at(state, 23)
    state.progress.refused_in_a_row = 3
    return state, store


def at(state: TrainState, step: int) -> None:
    """The state as it is at a step: its weights say which."""
    state.progress.step, state.progress.sample = step, step * SIZE
    with torch.no_grad():
        state.model.embed.weight.fill_(float(step))


def weights_of(state: TrainState) -> float:
    return float(state.model.embed.weight.detach()[0, 0])


def test_back_to_the_last_scheduled_one_before_the_refusals(run):
    state, store = run
    progress = state.progress
    rollback = roll_back(state, store, Ranks(), every=5, refused=3)
    assert (rollback.from_step, rollback.to_step, rollback.samples) == (23, 20, (160, 184))
    assert state.progress is progress
    assert weights_of(state) == 20.0
    assert progress.skipped == [[160, 184]]
    assert progress.refused_in_a_row == 0
    assert commit_rollback(state, store, Ranks()) is None
    assert store.steps() == [10, 12, 15, 20]
    again = roll_back_from(state, store, 23, 26)
    assert again == 15, "without a new checkpoint since: further back"
    assert progress.skipped == [[120, 208]]
    assert progress.rollbacks == [[23, 20], [23, 15]]


def roll_back_from(state: TrainState, store: CheckpointStore, step: int, sample: int) -> int:
    """The step that it goes back to after three more refusals."""
    at(state, step)
    state.progress.sample = sample * SIZE
    state.progress.refused_in_a_row = 3
    to_step = roll_back(state, store, Ranks(), every=5, refused=3).to_step
    assert commit_rollback(state, store, Ranks()) is None
    return to_step


def test_a_new_checkpoint_in_between_is_where_it_goes_back_to(run):
    state, store = run
    roll_back(state, store, Ranks(), every=5, refused=3)
    assert commit_rollback(state, store, Ranks()) is None
    at(state, 25)
    store.save(25, state.write)
    assert roll_back_from(state, store, 28, 31) == 25


def test_a_damaged_one_is_passed_over(run):
    state, store = run
    (store.root / "step-00000020" / "model.safetensors").write_bytes(b"")
    assert roll_back(state, store, Ranks(), every=5, refused=3).to_step == 15


def test_an_unscheduled_one_serves_where_nothing_else_is_left(run):
    state, store = run
    for step in (10, 15, 20):
        (store.root / f"step-{step:08d}" / "model.safetensors").write_bytes(b"")
    assert roll_back(state, store, Ranks(), every=5, refused=3).to_step == 12
    at(state, 23)
    (store.root / "step-00000012" / "model.safetensors").write_bytes(b"")
    assert roll_back(state, store, Ranks(), every=5, refused=3).to_step == 22, "within the refusals"


def test_with_nothing_intact_it_says_so(run):
    state, store = run
    for folder in store.root.glob("step-*"):
        (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="is intact"):
        roll_back(state, store, Ranks(), every=5, refused=3)


def test_a_best_one_of_the_course_given_up_is_forgotten(run):
    state, store = run
    state.progress.best_step, state.progress.best_val_loss = 22, 1.5
    roll_back(state, store, Ranks(), every=5, refused=3)
    assert state.progress.best_step is None
    assert state.progress.best_val_loss is None
