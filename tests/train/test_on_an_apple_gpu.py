"""A run on an Apple GPU, as far as a machine without one can tell (see apple_gpu.py)."""

from __future__ import annotations

import contextlib
import io
import json
import os
from pathlib import Path

import pytest
import torch
from apple_gpu import OnGPU, RefusedError, apple_gpu

from fromscratch.cli.main import main
from fromscratch.data.batches import Batch
from fromscratch.foundation.hardware import resolve_device
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.optim.build import build_optimizers
from fromscratch.optim.config import OptimConfig
from fromscratch.train.objectives import next_token_loss
from fromscratch.train.precision import choose_precision

RECIPE = """
[model]
family = "modern"
n_layer = 2
n_head = 2
d_model = 32
context = 32
[data]
path = "text"
tokenizer = "bytes"
val_fraction = 0.1
document_mask = true
[optim]
name = "muon"
[train]
steps = 4
tokens_per_step = 128
micro_batch = 2
health_every = 2
[eval]
every = 2
tokens = 256
[sample]
every = 2
prompts = ["The "]
max_new_tokens = 4
[checkpoint]
every = 2
"""


def said(*words: str) -> str:
    out, code = io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            main(list(words))
        except SystemExit as end:
            code = int(end.code or 0)
    assert code == 0, out.getvalue()
    return out.getvalue()


def losses(run: Path) -> list[float]:
    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [row.get("loss", row.get("val_loss")) for row in rows]


@pytest.mark.long
def test_a_run_trains_validates_samples_and_is_resumed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("text").mkdir()
    for i in range(60):
        Path(f"text/{i}.txt").write_text(f"The number {i} is followed by {i + 1}.\n" * 4)
    Path("r.toml").write_text(RECIPE)
    said("train", "r.toml", "--run", "host")
    # The dry run before the first step is another process.
    site = str(Path(__file__).parent / "apple_site")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([site, os.environ.get("PYTHONPATH", "")]))
    with apple_gpu():
        assert resolve_device("auto").type == "mps"
        assert "finished 4 steps" in said("train", "r.toml", "--run", "gpu")
        assert losses(Path("gpu")) == pytest.approx(losses(Path("host")), abs=2e-4)
        more = said("resume", "gpu", "train.steps=6")
        assert "from step 4 of 6" in more
        assert "finished 6 steps" in more
        assert said("generate", "gpu", "The ", "--max-new-tokens", "3", "--device", "mps")
    started = [json.loads(line) for line in Path("gpu/events.jsonl").read_text().splitlines()]
    (first, *_) = [row for row in started if row["event"] == "started"]
    assert first["device"].startswith("mps")
    assert first["precision"] == "fp32"
    # What was written there is read without a GPU.
    assert said("generate", "gpu", "The ", "--max-new-tokens", "3", "--device", "cpu")


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_an_update_of_gpt2s_family_is_the_hosts(name):
    config = ModelConfig(
        family="gpt2", n_layer=1, n_head=2, d_model=32, context=16, vocab_size=50, logit_softcap=8.0
    )
    ids = torch.randint(0, 50, (2, 17), generator=torch.Generator().manual_seed(0))
    batch = Batch(ids[:, :-1], ids[:, 1:], None)

    def updated(device: torch.device) -> dict[str, torch.Tensor]:
        model = GPT(config, seed=0).to(device)
        optimizers = build_optimizers(model, OptimConfig(name=name))
        for _ in range(2):
            next_token_loss(model, batch.to(model.device)).backward()
            for member in optimizers.members:
                member.optimizer.step()
            optimizers.zero_grad()
        return {key: value.cpu() for key, value in model.state_dict().items()}

    expected = updated(torch.device("cpu"))
    with apple_gpu() as device:
        found = updated(device)
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, atol=1e-5, rtol=1e-4, msg=key)


def test_auto_is_fp32_without_a_loss_scaler():
    with apple_gpu() as device:
        precision = choose_precision("auto", device)
        assert precision.name == "fp32"
        assert precision.scaler(None) is None
        with precision.autocast():
            assert not torch.is_autocast_enabled("mps")


@pytest.mark.parametrize(
    "what",
    [
        lambda x: x.double(),
        lambda x: x.to("cpu", torch.float64),
        lambda x: torch.zeros(2, dtype=torch.float64, device=x.device),
        lambda x: x + torch.zeros(3),
        lambda x: torch.zeros(3).to(x.device, non_blocking=True),
        lambda x: torch.histc(x),
    ],
)
def test_the_guard_refuses_what_an_apple_gpu_cannot_do(what):
    with apple_gpu() as device:
        x = torch.zeros(3, device=device)
        assert isinstance(x, OnGPU)
        assert (x + 1).cpu().double().sum() == 3
        with pytest.raises(RefusedError):
            what(x)
