"""What is measured is what is there, and measuring changes nothing."""

import math
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from tiny import double_loss, pieces, ragged, tiny, weights

from fromscratch.data.batches import Batch
from fromscratch.foundation.files import read_json_lines
from fromscratch.foundation.schedules import StepSettings
from fromscratch.model.attention import AttentionInputs
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.runs.assemble import new_run
from fromscratch.runs.pick_up import open_run
from fromscratch.runs.recipe_files import load_recipe
from fromscratch.train.health import HealthProbe, attention_entropy
from fromscratch.train.step import train_step


def measured(name: str, clip: float):
    """A step with a probe around its update; the gradients and weights as a reference has them."""
    model, optimizers = tiny(name)
    probe = HealthProbe(model, optimizers)
    before = weights(model)
    batch = ragged(8)
    outcome = train_step(
        model, double_loss, optimizers, pieces(batch, 4), settings=StepSettings(clip=clip),
        around_update=probe.around_update,
    )  # fmt: skip
    result = probe.result(1, outcome.grad_norm, batch.rows(4, 8), nullcontext)
    reference, _ = tiny(name)
    (double_loss(reference, batch) / batch.n_targets).backward()
    gradients = {n: p.grad for n, p in reference.named_parameters()}
    return model, optimizers, before, gradients, result


@pytest.mark.parametrize("name", ["adamw", "muon"])
@pytest.mark.parametrize("clip", [0.0, 0.05])
def test_norms(name, clip):
    model, _, before, gradients, result = measured(name, clip)
    after = weights(model)
    assert set(result.parts) == {"embed", "positions", "blocks.0", "blocks.1", "final_norm"}
    for part, row in result.parts.items():
        names = [n for n in after if n.startswith(part + ".")]

        def norm(tensors, names=names) -> float:
            return math.sqrt(sum(float((tensors[n] ** 2).sum()) for n in names))

        moved = norm({n: after[n] - before[n] for n in names})
        assert row["grad_norm"] == pytest.approx(norm(gradients), rel=1e-4)
        assert row["param_norm"] == pytest.approx(norm(before), rel=1e-5)
        assert row["update_norm"] == pytest.approx(moved, rel=1e-5)
        assert row["update_ratio"] == pytest.approx(moved / norm(before), rel=1e-5)


def test_second_moments():
    _, optimizers, _, _, result = measured("adamw", 0.0)
    state = optimizers.state()
    assert set(result.second_moment) == {"blocks.0", "blocks.1"}
    for part, row in result.second_moment.items():
        values = torch.cat([t.flatten() for n, t in state.items()
                            if n.startswith(f"adamw.exp_avg_sq.{part}.")])  # fmt: skip
        assert row["mean"] == pytest.approx(float(values.mean()), rel=1e-4)
        assert row["max"] == pytest.approx(float(values.max()), rel=1e-5)
        assert row["min"] == pytest.approx(float(values.min()), rel=1e-4, abs=1e-30)


def test_activations():
    model, _, _, _, result = measured("adamw", 0.0)
    ids = ragged(8).ids[4:5]
    with torch.no_grad():
        x = model.embed(ids) + model.positions.weight
        for index, block in enumerate(model.blocks):
            x = block(x, AttentionInputs())
            found = result.parts[f"blocks.{index}"]["activation_std"]
            assert found == pytest.approx(float(x.std()), rel=1e-4)


def test_units_that_no_token_switches_on():
    config = ModelConfig(
        family="gpt2", n_layer=1, n_head=2, d_model=16, d_ff=64, context=12, vocab_size=23,
        activation="relu",
    )  # fmt: skip
    model = GPT(config, seed=3).train()
    with torch.no_grad():
        model.blocks[0].mlp.up.bias[:16] = -100.0
        model.blocks[0].mlp.up.bias[16:] = 100.0
    _, optimizers = tiny()
    probe = HealthProbe(model, optimizers)
    with probe.around_update():
        pass
    batch = Batch(ragged(2).ids, ragged(2).targets)
    result = probe.result(1, 0.0, batch, nullcontext)
    assert result.parts["blocks.0"]["dead_units"] == 0.25


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("n_kv_head", [1, 4])
def test_entropy_against_attention_written_out(n_kv_head, masked):
    config = ModelConfig(
        family="modern", n_layer=1, n_head=4, n_kv_head=n_kv_head, d_model=32, context=24,
        vocab_size=23,
    )  # fmt: skip
    model = GPT(config, seed=1)
    ids = torch.randint(0, 23, (1, 24), generator=torch.Generator().manual_seed(0))
    segments = (ids == 3).cumsum(dim=1) if masked else None
    seen = {}
    attention = model.blocks[0].attn
    attention.register_forward_pre_hook(lambda module, arguments: seen.update(a=arguments))
    with torch.no_grad():
        attention.qkv.weight.mul_(30)  # or every head looks everywhere alike
        model.hidden(ids, segments=segments)
        found = attention_entropy(attention, *seen["a"])
        q, k, _ = (t[0].double() for t in attention.project(*seen["a"]))
    assert found.shape == (4,)
    for head in range(4):
        total = 0.0
        for t in range(24):
            may = [s for s in range(t + 1) if segments is None or segments[0, s] == segments[0, t]]
            scores = [float(q[head, t] @ k[head * n_kv_head // 4, s]) / 8**0.5 for s in may]
            top = max(scores)
            weights_ = [math.exp(s - top) for s in scores]
            shares = [w / sum(weights_) for w in weights_]
            total -= sum(p * math.log(p) for p in shares if p > 0)
        assert float(found[head]) == pytest.approx(total / 24, rel=1e-4)


def test_an_update_that_was_refused_was_not_measured():
    model, optimizers = tiny()
    probe = HealthProbe(model, optimizers)
    batch = ragged(4)
    outcome = train_step(
        model, double_loss, optimizers, [batch], settings=StepSettings(clip=1.0),
        accept=lambda loss, norm: False, around_update=probe.around_update,
    )  # fmt: skip
    assert not outcome.applied
    assert probe.result(1, outcome.grad_norm, batch, nullcontext) is None


RUN = [
    "model.n_layer=2", "model.n_head=2", "model.d_model=32", "model.d_ff=64", "model.context=32",
    "model.vocab_size=257", "model.padded_vocab=257", "model.dropout=0.1", "data.tokenizer=bytes",
    "data.val_fraction=0.2", "train.steps=6", "train.tokens_per_step=128", "train.micro_batch=2",
    "eval.every=0", "sample.every=0", "checkpoint.every=2",
]  # fmt: skip


def silent(event: object) -> None:
    pass


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").mkdir()
    for i in range(60):
        (tmp_path / f"text/{i}.txt").write_text(f"line {i} of text that repeats itself\n" * 4)
    return tmp_path / "text"


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_a_run_that_is_measured_is_the_run_that_is_not(text, name):
    """Dropout on: a random number that was drawn or kept from being drawn would show."""
    runs = {}
    for every in (0, 1):
        overrides = [*RUN, f"data.path={text}", f"optim.name={name}", f"train.health_every={every}"]
        session = new_run(load_recipe("try", overrides), Path(f"run-{every}"), report=silent)
        assert session.train()
        runs[every] = session
    plain, probed = (runs[every].state for every in (0, 1))
    for key, value in plain.model.state_dict().items():
        assert torch.equal(probed.model.state_dict()[key], value), key
    for key, value in plain.optimizers.state().items():
        assert torch.equal(probed.optimizers.state()[key], value), key
    losses = [
        [r["loss"] for r in read_json_lines(runs[every].paths.metrics) if "loss" in r]
        for every in (0, 1)
    ]
    assert losses[0] == losses[1]
    assert not runs[0].paths.health.exists()
    rows = list(read_json_lines(runs[1].paths.health))
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[0]["parts"]["blocks.1"]["attention_entropy"] > 0
    norms = [r["grad_norm"] for r in read_json_lines(runs[1].paths.metrics) if "loss" in r]
    for row, norm in zip(rows, norms, strict=True):
        total = math.sqrt(sum(part["grad_norm"] ** 2 for part in row["parts"].values()))
        assert total == pytest.approx(norm, rel=1e-5)


def test_rows_past_the_step_that_is_resumed_from_are_dropped(text):
    overrides = [*RUN, f"data.path={text}", "train.health_every=1"]
    session = new_run(load_recipe("try", overrides), Path("run"), report=silent)
    session.train()
    whole = list(read_json_lines(session.paths.health))
    for step in (6,):
        for file in (session.paths.checkpoints / f"step-{step:08d}").iterdir():
            file.unlink()
    again = open_run(Path("run"), report=silent)
    assert again.state.progress.step == 4
    assert again.train()
    assert list(read_json_lines(session.paths.health)) == whole
