"""A small job that any number of ranks can do: `train_small` gives the same numbers on each.

Run as a program on several ranks (test_shared_updates.py), it does it in all ways and leaves what
came out in a file.
"""

import dataclasses
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fromscratch.data.batches import IGNORE, Batch, ValidationSet, Windows
from fromscratch.data.shards import Shard, TokenStream
from fromscratch.data.watching import unwatched
from fromscratch.evaluate.loss import evaluate_loss
from fromscratch.foundation.errors import Interrupted
from fromscratch.foundation.schedules import StepSettings
from fromscratch.foundation.world import world_from_environment
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.optim.build import build_optimizers
from fromscratch.optim.config import OptimConfig
from fromscratch.parallel.connect import connected
from fromscratch.parallel.ranks import AgreedStop, Ranks
from fromscratch.parallel.share import SharedModel, share
from fromscratch.runs.assemble import new_run
from fromscratch.runs.pick_up import open_run
from fromscratch.runs.recipe_files import load_recipe
from fromscratch.train.objectives import next_token_loss
from fromscratch.train.step import train_step

WAYS = [("ddp", "adamw", "gpt2"), ("fsdp", "adamw", "gpt2"), ("fsdp", "muon", "modern")]
CONTEXT, VOCAB, PER_STEP = 12, 23, 8
STEPS, POISONED = 6, 3
"""At one step a loss is not finite, in a window that rank 0 does not see."""


def model_of(family: Any) -> GPT:
    """An odd width, so that two ranks hold parts of different sizes, and vocabulary padding."""
    config = ModelConfig(
        family=family, n_layer=2, n_head=2, d_model=20, d_ff=27, context=CONTEXT, vocab_size=VOCAB,
        padded_vocab=25,
    )  # fmt: skip
    return GPT(config, seed=3).train()


def windows(step: int) -> Batch:
    """The step's global batch, each window with another number of targets."""
    draw = torch.Generator().manual_seed(step)
    ids = torch.randint(0, VOCAB, (PER_STEP, CONTEXT), generator=draw)
    targets = torch.randint(0, VOCAB, (PER_STEP, CONTEXT), generator=draw)
    for row in range(PER_STEP):
        targets[row, : row * CONTEXT // PER_STEP] = IGNORE
    return Batch(ids, targets)


def train_small(ranks: Ranks, shared: SharedModel, optimizer: Any) -> dict[str, Any]:
    """A few updates, of which one is refused; what they reported, and the weights."""
    optimizers = build_optimizers(shared.model, OptimConfig(name=optimizer, lr=0.003))
    poison = False

    def loss(model: GPT, batch: Batch) -> torch.Tensor:
        value = next_token_loss(model, batch)
        return value * float("nan") if poison else value

    objective = shared.through(loss)
    outcomes = []
    for step in range(STEPS):
        first, number = ranks.part(0, PER_STEP)
        mine = windows(step).rows(first, first + number)
        poison = step == POISONED and first + number == PER_STEP
        outcome = train_step(
            shared.model,
            objective,
            optimizers,
            [mine.rows(i, i + 2) for i in range(0, number, 2)],
            settings=StepSettings(lr=1.0, clip=0.5),
            ranks=ranks,
            syncing=shared.syncing,
        )
        assert outcome is not None
        outcomes.append(dataclasses.asdict(outcome))
    weights = {name: p.flatten().tolist() for name, p in shared.whole().named_parameters()}
    return {"outcomes": outcomes, "weights": weights}


def validation_set(folder: Path) -> ValidationSet:
    """Seven windows, the last one short: no number of ranks above 1 divides them."""
    tokens = np.random.default_rng(0).integers(0, VOCAB, 79).astype(np.uint16)
    np.save(folder / "val.npy", tokens)
    shard = Shard("val.npy", "", "val", "", len(tokens), 1, len(tokens), "")
    held_out = Windows(TokenStream(folder, [shard]), CONTEXT)
    return ValidationSet("validation", held_out, np.arange(VOCAB), None)


def evaluated(ranks: Ranks, folder: Path) -> list[float]:
    """Nats, targets and bytes of a fresh model."""
    data = ranks.main_first(lambda: validation_set(folder))
    totals = evaluate_loss(model_of("modern"), data, batch_size=2, ranks=ranks)
    return [totals.nats, totals.n_targets, totals.n_bytes]


def interrupted_after(ranks: Ranks, folder: Path) -> int:
    """How often all asked whether to stop, when the last rank alone is told to at its second."""
    asked = 0

    def told() -> bool:
        nonlocal asked
        asked += 1
        return asked >= 2 and ranks.world.rank == ranks.size - 1

    try:
        evaluate_loss(
            model_of("modern"), validation_set(folder), batch_size=1,
            should_stop=AgreedStop(told, ranks), ranks=ranks,
        )  # fmt: skip
    except Interrupted:
        return asked
    return -1


def trained_again(ranks: Ranks, folder: Path, mode: str) -> list[list[Any]]:
    """A run with dropout, and the same from the middle on: losses, and hashes of the last files."""
    settings = [
        "model.n_layer=2", "model.n_head=2", "model.d_model=20", "model.d_ff=27",
        "model.context=32", "model.vocab_size=257", "model.dropout=0.1", "data.tokenizer=bytes",
        f"data.path={folder / 'text'}", "data.val_fraction=0.2", "data.documents=file",
        "train.steps=8", "train.tokens_per_step=256", "train.micro_batch=2",
        "checkpoint.every=4", "checkpoint.keep_last=9", "eval.every=4", "sample.every=0",
        f"parallel.mode={mode}", "optim.embed_lr=0.003",
    ]  # fmt: skip

    def write_text() -> None:
        (folder / "text").mkdir(exist_ok=True)
        for i in range(40):
            (folder / "text" / f"{i}.txt").write_text(f"{i} some words that repeat, " * 9)

    ranks.from_main(write_text)
    os.chdir(folder)
    first, second = folder / f"{mode}-first", folder / f"{mode}-second"
    new_run(load_recipe("try", settings), first, report=unwatched, ranks=ranks).train()

    def go_back() -> None:
        shutil.copytree(first, second, symlinks=True)
        shutil.rmtree(second / "checkpoints/step-00000008")

    ranks.from_main(go_back)
    open_run(second, report=unwatched, ranks=ranks).train()
    out = []
    for run in (first, second):
        lines = map(json.loads, (run / "metrics.jsonl").read_text("utf-8").splitlines())
        latest = (run / "checkpoints/latest").resolve()
        assert latest.name == "step-00000008"
        files = json.loads((latest / "MANIFEST.json").read_text())["files"]
        out.append(
            [row.get("loss", row.get("val_loss")) for row in lines]
            + [files[name]["sha256"] for name in ("model.safetensors", "optimizer.safetensors")]
        )
    return out


def main() -> None:
    """Everything, on the ranks that were started."""
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    with connected(world_from_environment(), print) as ranks:
        rank = ranks.world.rank
        out: dict[str, Any] = {
            "sum": ranks.sum(rank + 1.0, 0.5),
            "any": [ranks.any(rank == 1), ranks.any(False)],
            "from_main": ranks.from_main(lambda: {"rank": rank}),
            "evaluated": evaluated(ranks, folder),
            "interrupted_after": interrupted_after(ranks, folder / str(rank)),
        }
        for mode, optimizer, family in WAYS:
            shared = share(model_of(family), launched=True, mode=mode, half=None)
            sizes = [
                p.to_local().numel() if mode == "fsdp" else p.numel()
                for p in shared.model.parameters()
            ]
            trained = train_small(ranks, shared, optimizer)
            out[f"{mode} {optimizer}"] = trained | {"held": sum(sizes)}
        for mode in ("ddp", "fsdp"):
            out[f"again {mode}"] = trained_again(ranks, folder, mode)
        (folder / f"rank-{rank}.json").write_text(json.dumps(out))


if __name__ == "__main__":
    sys.exit(main())
