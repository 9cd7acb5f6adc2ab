"""A state that is written and read again is the same to the last bit."""

import pytest
import torch

from fromscratch.checkpoint.bundle import load_bundle
from fromscratch.checkpoint.state import Progress, TrainState
from fromscratch.checkpoint.store import CheckpointStore
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.schedules import StepSettings
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.optim.build import build_optimizers
from fromscratch.optim.config import OptimConfig
from fromscratch.tokenizer.build import bytes_tokenizer

SHAPES = {
    "gpt2, padded and tied": {"family": "gpt2", "padded_vocab": 272},
    "gpt2, an odd one": {
        "family": "gpt2", "padded_vocab": 264, "tie_embeddings": False, "head_bias": True,
        "qkv_bias": False, "norm_placement": "post", "positions": "sinusoidal",
    },
    "modern, padded": {"family": "modern", "padded_vocab": 272, "n_kv_head": 1},
    "modern, tied": {"family": "modern", "tie_embeddings": True},
}  # fmt: skip


def make(shape: str, optimizer: str, seed: int = 0) -> TrainState:
    config = ModelConfig(
        n_layer=2, n_head=2, d_model=16, context=16, vocab_size=257, **SHAPES[shape]
    )
    model = GPT(config, seed=seed).train()
    return TrainState(
        model=model,
        optimizers=build_optimizers(model, OptimConfig(name=optimizer, lr=0.01)),
        tokenizer=bytes_tokenizer(),
        recipe_toml='name = "x"\n',
        progress=Progress(7, "data", "tokenizer", "recipe"),
    )


def train(state: TrainState, steps: int, start: int = 0) -> None:
    """Some updates that reach every parameter."""
    for step in range(start, start + steps):
        draw = torch.Generator().manual_seed(step)
        ids = torch.randint(0, 257, (2, 16), generator=draw)
        logits = state.model(ids)[..., :257]
        (logits.logsumexp(-1).sum() - logits[..., 3].sum()).backward()
        state.optimizers.put_in_force(StepSettings())
        state.optimizers.step()
        state.optimizers.zero_grad()


def assert_same(a: TrainState, b: TrainState) -> None:
    for ours, theirs in (
        (a.model.state_dict(), b.model.state_dict()),
        (a.optimizers.state(), b.optimizers.state()),
    ):
        assert ours.keys() == theirs.keys()
        for name in ours:
            assert ours[name].dtype == theirs[name].dtype
            assert torch.equal(ours[name], theirs[name]), name
    assert a.progress == b.progress


@pytest.mark.parametrize("optimizer", ["adamw", "adamw8bit", "muon"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_round_trip_is_exact(tmp_path, shape, optimizer):
    state = make(shape, optimizer)
    train(state, 3)
    if state.model.config.padded_vocab > 257:  # no data ever moves these, so say what they are
        with torch.no_grad():
            state.model.embed.weight[257:] = torch.linspace(-1, 1, 16)
    state.progress.step, state.progress.tokens, state.progress.sample = 3, 96, 6
    state.progress.seconds, state.progress.best_val_loss = 0.1 + 0.2, 1 / 3
    state.progress.best_step, state.progress.duties_done = 2, True
    state.progress.scaler = {"scale": 2.0**19, "good_steps": 1234}
    state.write(tmp_path)
    other = make(shape, optimizer, seed=99)
    train(other, 1)
    other.read(tmp_path)
    assert_same(state, other)
    steps = [t for name, t in other.optimizers.state().items() if ".step." in name]
    assert {float(t) for t in steps} == {3.0}
    # And it goes on as the same.
    train(state, 2, start=3)
    train(other, 2, start=3)
    assert_same(state, other)


@pytest.mark.parametrize("optimizer", ["adamw", "adamw8bit", "muon"])
def test_before_the_first_update_there_is_no_optimiser_state(tmp_path, optimizer):
    state = make("modern, padded", optimizer)
    state.write(tmp_path)
    other = make("modern, padded", optimizer, seed=9)
    other.read(tmp_path)
    assert_same(state, other)


def test_reading_keeps_the_parameters_that_the_optimiser_knows(tmp_path):
    """Weights are copied in place: an optimiser that held others would train nothing."""
    state = make("gpt2, padded and tied", "adamw")
    state.write(tmp_path)
    before = [id(p) for p in state.model.parameters()]
    state.read(tmp_path)
    assert [id(p) for p in state.model.parameters()] == before


def test_another_models_state_is_refused(tmp_path):
    make("modern, padded", "adamw").write(tmp_path)
    with pytest.raises(UserError, match="another shape"):
        make("modern, tied", "adamw").read(tmp_path)


def test_a_model_without_training_state_is_refused(tmp_path):
    state = make("modern, padded", "adamw")
    state.write(tmp_path)
    (tmp_path / "state.json").unlink()
    with pytest.raises(UserError, match="no training state"):
        state.read(tmp_path)


def test_another_optimisers_state_is_refused_and_nothing_is_changed(tmp_path):
    state = make("modern, padded", "muon")
    train(state, 1)
    state.write(tmp_path)
    with pytest.raises(UserError, match="does not fit"):
        make("modern, padded", "adamw").read(tmp_path)


def test_nothing_in_a_checkpoint_is_a_pickle(tmp_path):
    state = make("modern, padded", "adamw")
    train(state, 1)
    state.write(tmp_path)
    files = {path.name for path in tmp_path.iterdir()}
    assert {name.rpartition(".")[2] for name in files} == {"json", "safetensors", "toml"}


def test_damaged_weights_are_not_used_for_anything(tmp_path):
    """Also outside training: a flipped bit in the weights would go unnoticed for ever."""
    state = make("modern, tied", "adamw")
    folder = CheckpointStore(tmp_path).save(1, state.write)
    assert load_bundle(folder).folder == folder
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-5] ^= 4
    (folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(UserError, match="does not match its checksum"):
        load_bundle(folder)
