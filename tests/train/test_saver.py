"""A checkpoint that is written beside training holds the step it was asked at, whatever comes."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fromscratch.checkpoint.host_copy import HostCopy
from fromscratch.checkpoint.state import Progress, TrainState
from fromscratch.checkpoint.store import CheckpointStore, verify
from fromscratch.foundation.names import RunPaths
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.optim.build import build_optimizers
from fromscratch.optim.config import OptimConfig
from fromscratch.tokenizer.build import bytes_tokenizer
from fromscratch.track.jsonl import JsonlTracker
from fromscratch.train.saver import SavePlan, Saver


class GatedStore(CheckpointStore):
    """The store, which begins to write when the test says so."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.gate = threading.Event()
        self.gate.set()

    def save(self, *arguments, **options):
        assert self.gate.wait(60)
        return super().save(*arguments, **options)


def new_state(seed: int = 0) -> TrainState:
    config = ModelConfig(
        family="modern", n_layer=1, n_head=2, d_model=16, context=16, vocab_size=257,
        padded_vocab=264,
    )  # fmt: skip
    model = GPT(config, seed=seed).train()
    optimizers = build_optimizers(model, OptimConfig(name="muon", lr=0.01))
    progress = Progress(7, "data", "tokenizer", "recipe", duties_done=True)
    return TrainState(model, optimizers, bytes_tokenizer(), 'name = "x"\n', progress)


def advance(state: TrainState) -> None:
    """One update that moves every tensor of the state, in place as training does."""
    state.model(torch.arange(16)[None])[..., :257].logsumexp(-1).sum().backward()
    state.optimizers.step()
    state.optimizers.zero_grad()
    state.progress.step += 1
    state.progress.tokens += 16


def tensors(state: TrainState) -> dict[str, torch.Tensor]:
    everything = state.model.state_dict() | state.optimizers.state()
    return {name: tensor.clone() for name, tensor in everything.items()}


@pytest.fixture
def state() -> TrainState:
    state = new_state()
    advance(state)
    return state


@pytest.fixture
def store(tmp_path: Path) -> GatedStore:
    return GatedStore(tmp_path / "checkpoints")


@pytest.fixture
def saver_of(tmp_path: Path, state: TrainState, store: GatedStore):
    """Makes a saver that logs into real files; ends it after the test."""
    made = []

    def make(plan: SavePlan | None = None, spare: Callable[[], int | None] = lambda: None) -> Saver:
        tracker = JsonlTracker(RunPaths(tmp_path), resumed_step=None)
        saver = Saver(state, store, tracker, plan or SavePlan(every=1), spare)
        made.append(saver)
        return saver

    yield make
    store.gate.set()
    for saver in made:
        saver.close()


@pytest.fixture
def events(tmp_path: Path) -> Callable[[], list[tuple[str, int]]]:
    """Name and step of all events so far."""

    def read() -> list[tuple[str, int]]:
        lines = (tmp_path / "events.jsonl").read_text().splitlines()
        return [(row["event"], row["step"]) for row in map(json.loads, lines)]

    return read


def test_the_checkpoint_is_of_the_step_though_training_goes_on(state, store, saver_of, events):
    saver = saver_of()
    for _ in range(2):  # the second time, the copy's buffers are there already
        advance(state)
        expected, step = tensors(state), state.progress.step
        store.gate.clear()
        saver.save()
        for _ in range(3):
            advance(state)
        assert store.steps() == [] or store.steps()[-1] < step, "training did not wait"
        store.gate.set()
        saver.wait()
        folder = store.root / f"step-{step:08d}"
        assert verify(folder) is None
        read = new_state(seed=5)
        read.read(folder)
        assert read.progress.step == step
        assert read.progress.tokens == 16 * step
        found = tensors(read)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
        assert any(not torch.equal(found[n], t) for n, t in tensors(state).items())
        assert events()[-1] == ("checkpoint", step)


def test_the_next_one_waits_for_the_one_before(state, store, saver_of, events):
    saver = saver_of()
    store.gate.clear()
    saver.save()
    advance(state)
    second = threading.Thread(target=saver.save)
    second.start()
    second.join(0.3)
    assert second.is_alive()
    store.gate.set()
    second.join(60)
    saver.wait()
    assert store.steps() == [1, 2]
    assert events() == [("checkpoint", 1), ("checkpoint", 2)]


def test_what_must_be_there_is_there_when_save_returns(state, store, saver_of):
    saver = saver_of()
    store.gate.clear()
    saver.save()
    advance(state)
    threading.Timer(0.2, store.gate.set).start()
    saver.save(must=True)
    assert store.steps() == [1, 2]


def test_without_memory_for_the_copy_training_waits_and_is_told_once(
    state, store, saver_of, events
):
    saver = saver_of(spare=lambda: 0)
    for _ in range(3):
        saver.save()
        assert store.steps()[-1] == state.progress.step
        advance(state)
    assert [name for name, _ in events()] == ["checkpoint_waits", *3 * ["checkpoint"]]


def test_a_copy_that_was_there_once_needs_no_memory_again(state):
    copy = HostCopy()
    size = sum(t.numel() * t.element_size() for t in tensors(state).values())
    assert copy.missing_bytes(state.now()) == size
    first = copy.take(state.now())
    assert copy.missing_bytes(state.now()) == 0
    advance(state)
    second = copy.take(state.now())
    assert {n: t.data_ptr() for n, t in first.weights.items()} == {
        n: t.data_ptr() for n, t in second.weights.items()
    }
    assert all(torch.equal(t, state.optimizers.state()[n]) for n, t in second.optimizer.items())
    # Before the first update there is no optimiser state; what comes later is asked for.
    early = HostCopy()
    early.take(new_state().now())
    assert 0 < early.missing_bytes(state.now()) < size


def test_an_error_of_ours_in_the_background_is_not_lost(state, store, saver_of):
    saver = saver_of()
    state.recipe_toml = 3  # type: ignore[assignment]
    saver.save()
    with pytest.raises(TypeError):
        saver.wait()
    assert store.steps() == []
    state.recipe_toml = ""


def test_permanent_and_temporary_ones_are_made_when_due(state, saver_of, store):
    saver = saver_of(SavePlan(every=4, keep_every=6, every_minutes=1e-9))
    made = {}
    for _ in range(13):
        assert saver.due(), "by the clock alone"
        saver.save()
        saver.wait()
        manifest = json.loads((store.pointer("latest") / "MANIFEST.json").read_text())
        made[manifest["step"]] = manifest.get("keep", "recent")
        advance(state)
    assert {s for s in made if made[s] == "permanent"} == {6, 12}
    assert {s for s in made if made[s] == "recent"} == {4, 8}
    assert store.steps() == [6, 8, 12, 13]
    by_steps = Saver(state, store, saver.tracker, SavePlan(every=4, keep_every=6))
    due = []
    for step in range(1, 14):
        state.progress.step = step
        due += [step] if by_steps.due() else []
    assert due == [4, 6, 8, 12]
