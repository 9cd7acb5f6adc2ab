"""What precisions and optimisers do on a GPU: learn, go on to the bit, and stay within memory."""

import copy
import gc
from pathlib import Path

import pytest
import torch

from fromscratch.data.batches import Batch
from fromscratch.foundation.schedules import StepSettings
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.optim.adamw8bit import AdamW8bit
from fromscratch.optim.build import Optimizers, build_optimizers
from fromscratch.optim.config import OptimConfig
from fromscratch.plan.memory import optimizer_bytes
from fromscratch.runs.assemble import new_run
from fromscratch.runs.pick_up import open_run
from fromscratch.runs.recipe_files import load_recipe
from fromscratch.train.objectives import next_token_loss
from fromscratch.train.precision import Precision, choose_precision
from fromscratch.train.step import train_step

SHAPE = {"n_layer": 4, "n_head": 4, "d_model": 256, "context": 128, "vocab_size": 512}


def network(cuda: torch.device, **options: object) -> GPT:
    return GPT(ModelConfig(**(SHAPE | options)), seed=1).to(cuda).train()  # type: ignore[arg-type]


def batches(step: int) -> list[Batch]:
    """Sequences in which each id follows from the one before."""
    begin = torch.randint(0, 512, (16, 1), generator=torch.Generator().manual_seed(step))
    ids = (begin + 7 * torch.arange(129)) % 512
    return [Batch(part[:, :-1], part[:, 1:]) for part in ids.split(8)]


def train(
    model: GPT, optimizers: Optimizers, precision: Precision, steps: range
) -> tuple[list[float], dict[str, float] | None]:
    state, losses = None, []
    for step in steps:
        torch.manual_seed(step)
        scaler = precision.scaler(state)
        outcome = train_step(
            model, next_token_loss, optimizers, batches(step),
            settings=StepSettings(clip=1.0), autocast=precision.autocast, scaler=scaler,
        )  # fmt: skip
        assert outcome is not None
        state = None if scaler is None else scaler.state()
        losses.append(outcome.loss)
    return losses, state


def test_auto_is_the_16_bits_that_the_card_has(cuda):
    bf16 = torch.cuda.get_device_capability() >= (8, 0)
    precision = choose_precision("auto", cuda)
    assert precision.name == ("bf16" if bf16 else "fp16")
    assert precision.notes() == []


@pytest.mark.parametrize("name", ["fp32", "tf32", "bf16", "fp16"])
@pytest.mark.parametrize("family", ["gpt2", "modern"])
@pytest.mark.parametrize("optim", ["adamw", "adamw8bit", "muon"])
def test_it_learns_and_its_weights_are_fp32(cuda, name, family, optim):
    if optim == "adamw8bit":
        pytest.importorskip("bitsandbytes")
    precision = choose_precision(name, cuda)
    model = network(cuda, family=family)
    optimizers = build_optimizers(model, OptimConfig(name=optim, lr=3e-3))
    with precision.in_force():
        losses, _ = train(model, optimizers, precision, range(60))
    assert losses[-1] < 0.5 * losses[0]
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    plain = [t for key, t in optimizers.state().items() if not key.startswith("adamw8bit.")]
    assert {t.dtype for t in plain} == {torch.float32}


def test_tf32_is_on_inside_and_off_again(cuda):
    if torch.cuda.get_device_capability() < (8, 0):
        assert "no effect" in choose_precision("tf32", cuda).notes()[0]
        return
    draw = torch.Generator().manual_seed(0)
    left, right = (torch.randn(512, 512, generator=draw).to(cuda) for _ in range(2))
    exact = left.double() @ right.double()

    def error() -> float:
        return float((left @ right - exact).abs().max())

    with choose_precision("fp32", cuda).in_force():
        full = error()
    with choose_precision("tf32", cuda).in_force():
        assert error() > 20 * full, "the product was not in tf32"
    with choose_precision("fp32", cuda).in_force():
        assert error() == full


@pytest.mark.parametrize("optim", ["adamw", "adamw8bit", "muon"])
@pytest.mark.parametrize("engine", ["bitsandbytes", "torchao"])
def test_the_state_goes_through_the_cpu_and_on_to_the_bit(cuda, optim, engine):
    if optim == "adamw8bit":
        pytest.importorskip(engine)
    elif engine == "torchao":
        pytest.skip("has no engine")
    config = OptimConfig(name=optim, lr=3e-3, engine=engine if optim == "adamw8bit" else "auto")
    precision = choose_precision("auto", cuda)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        model = network(cuda, dropout=0.1)
        optimizers = build_optimizers(model, config)
        train(model, optimizers, precision, range(5))
        saved = {name: tensor.cpu() for name, tensor in optimizers.state().items()}
        twin = copy.deepcopy(model)
        restored = build_optimizers(twin, config)
        restored.load_state(saved)
        again = restored.state()
        assert all(torch.equal(again[name].cpu(), saved[name]) for name in saved)
        one = train(model, optimizers, precision, range(5, 10))
        two = train(twin, restored, precision, range(5, 10))
        assert one == two
        for ours, theirs in zip(model.parameters(), twin.parameters(), strict=True):
            assert torch.equal(ours, theirs)
    finally:
        torch.use_deterministic_algorithms(False)


def test_bitsandbytes_updates_are_its_own_optimisers(cuda):
    bitsandbytes = pytest.importorskip("bitsandbytes")
    settings = {"lr": 3e-3, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.1}
    draw = torch.Generator().manual_seed(0)
    start = torch.randn(300, 1024, generator=draw)
    ours, theirs = (torch.nn.Parameter(start.clone().to(cuda)) for _ in range(2))
    optimizer = AdamW8bit([ours], engine="bitsandbytes", **settings)
    reference = bitsandbytes.optim.AdamW8bit([theirs], **settings)
    for _ in range(5):
        gradient = torch.randn(300, 1024, generator=draw).to(cuda)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        optimizer.step()
        reference.step()
    assert torch.equal(ours, theirs)
    state, expected = optimizer.state[ours], reference.state[theirs]
    assert torch.equal(state["exp_avg_codes"], expected["state1"])
    assert torch.equal(state["exp_avg_sq_codes"], expected["state2"])
    assert torch.equal(state["exp_avg_sq_scales"], expected["absmax2"])


def test_eight_bit_state_takes_what_plan_says(cuda):
    pytest.importorskip("bitsandbytes")
    config = OptimConfig(name="adamw8bit", lr=3e-3)
    model = network(cuda, d_model=512, n_layer=8)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    optimizers = build_optimizers(model, config)
    before = torch.cuda.memory_allocated()
    optimizers.step()
    taken = torch.cuda.memory_allocated() - before
    planned = optimizer_bytes(model.config, config)
    assert taken == pytest.approx(planned, rel=0.03)
    assert planned < 0.3 * 8 * sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("optim", ["adamw", "adamw8bit", "muon"])
def test_a_resumed_run_peaks_no_higher(cuda, optim, tmp_path: Path, monkeypatch):
    """R39: out of memory on resume only."""
    if optim == "adamw8bit":
        pytest.importorskip("bitsandbytes")
    monkeypatch.chdir(tmp_path)
    text = tmp_path / "text"
    text.mkdir()
    for i in range(200):
        (text / f"{i}.txt").write_text(f"line {i} of some text that repeats itself\n" * 40)
    recipe = load_recipe("minigpt-124m", [
        "model.n_layer=4", "model.d_model=512", "model.n_head=8", "model.d_ff=2048",
        "model.context=256", "model.vocab_size=257", "model.padded_vocab=272",
        f"data.path={text}", "data.tokenizer=bytes", "data.val_fraction=0.1",
        f"optim.name={optim}", "schedule.warmup_steps=1", "train.steps=6", "train.device=cuda",
        "train.tokens_per_step=4096", "train.micro_batch=8", "eval.every=2", "sample.every=0",
        "checkpoint.every=3",
    ])  # fmt: skip

    def peak(session: object) -> int:
        assert session.train()  # type: ignore[attr-defined]
        return torch.cuda.max_memory_allocated()

    def clear() -> None:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()

    clear()
    session = new_run(recipe, Path("run"), report=lambda event: None)
    first = peak(session)
    del session
    clear()
    session = open_run(Path("run"), ["train.steps=9"], report=lambda event: None)
    assert peak(session) <= first * 1.005
    del session


def test_activation_checkpointing_takes_less_memory_and_gives_the_same(cuda):
    precision = choose_precision("auto", cuda)

    def run(on: bool) -> tuple[list[float], int]:
        model = network(cuda, dropout=0.1, n_layer=8)
        model.activation_checkpointing = on
        optimizers = build_optimizers(model, OptimConfig(lr=3e-3))
        gc.collect()
        torch.cuda.reset_peak_memory_stats()
        return train(model, optimizers, precision, range(3))[0], torch.cuda.max_memory_allocated()

    (plain, whole), (losses, less) = run(False), run(True)
    assert losses == pytest.approx(plain, rel=1e-3)
    assert less < 0.7 * whole
