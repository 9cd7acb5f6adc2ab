"""NCCL, DDP and FSDP2 on the GPUs that there are: one is enough, two are used where present."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="There is no CUDA device."),
]

RECIPE = """
name = "on-gpu"
[model]
family = "modern"
n_layer = 2
n_head = 2
d_model = 64
context = 64
vocab_size = 257
padded_vocab = 259
[data]
path = "text"
tokenizer = "bytes"
val_fraction = 0.2
documents = "file"
[optim]
name = "muon"
lr = 0.001
muon_lr = 0.005
[train]
steps = 12
tokens_per_step = 512
micro_batch = 2
[eval]
every = 4
[sample]
every = 6
prompts = ["the "]
max_new_tokens = 6
[checkpoint]
every = 6
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("place")
    (root / "text").mkdir()
    for i in range(60):
        (root / "text" / f"{i}.txt").write_text(f"{i} " + "some words that come again, " * (9 + i))
    (root / "recipe.toml").write_text(RECIPE)
    return root


def fromscratch(place: Path, *arguments: str | Path, processes: int = 0) -> None:
    """The command line on the GPU; under torchrun with as many processes, where any are given."""
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    done = subprocess.run(
        [
            sys.executable, "-m", *([*launcher, "--"] if processes else []), "fromscratch",
            *map(str, arguments),
        ],
        cwd=place, env=os.environ | {"NO_COLOR": "1"}, capture_output=True, text=True, timeout=280,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def losses(run: Path) -> list[float]:
    lines = (run / "metrics.jsonl").read_text("utf-8").splitlines()
    rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return [row["loss"] if "loss" in row else row["val_loss"] for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
@pytest.mark.parametrize(("precision", "close"), [("fp32", 1e-5), ("bf16", 2e-2)])
def test_ranks_train_what_one_process_trains(place: Path, mode: str, precision: str, close: float):
    settings = [f"train.precision={precision}", f"parallel.mode={mode}"]
    alone, shared = place / f"alone-{mode}-{precision}", place / f"shared-{mode}-{precision}"
    fromscratch(place, "train", "recipe.toml", *settings, "--run", alone)
    processes = min(2, torch.cuda.device_count())
    fromscratch(place, "train", "recipe.toml", *settings, "--run", shared, processes=processes)
    assert losses(shared) == pytest.approx(losses(alone), rel=close)
    # The checkpoint of the ranks goes on in one process.
    for run in (alone, shared):
        fromscratch(place, "resume", run, "train.steps=18")
    assert losses(shared) == pytest.approx(losses(alone), rel=close)


@pytest.mark.slow
def test_more_processes_than_gpus_are_refused(place: Path):
    with pytest.raises(AssertionError, match="more processes on this machine than it has GPUs"):
        fromscratch(
            place, "train", "recipe.toml", "train.micro_batch=1", "train.tokens_per_step=1024",
            "--run", place / "many", processes=2 * torch.cuda.device_count(),
        )  # fmt: skip
