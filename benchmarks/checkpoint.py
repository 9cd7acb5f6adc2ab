"""What a checkpoint costs: the time that training waits for it, and the time that a run loses.

    python benchmarks/checkpoint.py [--shape 124m] [--saves 7] [--folder F]
        [--steps 30 --every 5 --repeats 3]

Two measurements, each of checkpoints that training waits for (`checkpoint.background=false`: the
peer) and of those written beside it, by turns in one process:

1. `stall`: a state of the shape with all of AdamW's moments; from asking for a checkpoint until
   training may go on. Medians; the first background checkpoint, which also takes the memory for the
   copy from the system, is shown by itself. And the peer's time, with the disk's part of it.
2. `run`: the same run, trained with checkpoints every n steps in both ways and with none (but the
   first and the last), and what the checkpoints cost in all. 0 steps leave this out.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import torch

from fromscratch.checkpoint.state import Progress, TrainState
from fromscratch.checkpoint.store import CheckpointStore
from fromscratch.data.watching import unwatched
from fromscratch.foundation.files import read_json_lines
from fromscratch.foundation.names import RunPaths
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.optim.build import build_optimizers
from fromscratch.optim.config import OptimConfig
from fromscratch.runs.assemble import new_run
from fromscratch.runs.recipe_files import load_recipe
from fromscratch.tokenizer.build import bytes_tokenizer
from fromscratch.track.jsonl import JsonlTracker
from fromscratch.train.saver import SavePlan, Saver

SHAPES = {
    "124m": {"n_layer": 12, "n_head": 12, "d_model": 768, "context": 1024, "padded_vocab": 50304},
    "small": {"n_layer": 4, "n_head": 4, "d_model": 256, "context": 256, "padded_vocab": 8192},
}
WAYS = {"waiting": False, "background": True}


def trained_state(shape: dict[str, int]) -> TrainState:
    """A GPT-2 of the shape after one update, so that AdamW's moments are there."""
    model = GPT(ModelConfig(family="gpt2", vocab_size=257, **shape))
    optimizers = build_optimizers(model, OptimConfig(name="adamw", lr=1e-4))
    model(torch.arange(16)[None])[..., :257].logsumexp(-1).sum().backward()
    optimizers.step()
    optimizers.zero_grad()
    progress = Progress(0, "data", "tokenizer", "recipe", duties_done=True)
    return TrainState(model, optimizers, bytes_tokenizer(), "", progress)


def measure_stalls(folder: Path, shape: dict[str, int], saves: int) -> None:
    """Prints the stall of both ways, by turns."""
    state = trained_state(shape)
    everything = [*state.model.state_dict().values(), *state.optimizers.state().values()]
    size = sum(t.numel() * t.element_size() for t in everything)
    tracker = JsonlTracker(RunPaths(folder), resumed_step=None)
    savers = {
        way: Saver(
            state,
            CheckpointStore(folder / way, keep_last=1),
            tracker,
            SavePlan(every=1, background=background),
        )
        for way, background in WAYS.items()
    }
    stalls: dict[str, list[float]] = {way: [] for way in savers}
    until_written: list[float] = []
    for _ in range(saves + 1):
        state.progress.step += 1
        for way, saver in savers.items():
            saver.start_from_here()
            os.sync()
            begin = time.perf_counter()
            saver.save()
            stalls[way].append(time.perf_counter() - begin)
            saver.wait()
            if way == "background":
                until_written.append(time.perf_counter() - begin)
    for saver in savers.values():
        saver.close()
    tracker.close()
    waits = [r for r in read_json_lines(RunPaths(folder).events) if r["event"] != "checkpoint"]
    assert not waits, waits
    waiting = statistics.median(stalls["waiting"][1:])
    background = statistics.median(stalls["background"][1:])
    print(f"state of {size / 1e9:.2f} GB, {torch.get_num_threads()} threads, {saves} of each:")
    print(f"  waiting     stall {waiting:7.3f} s   {size / waiting / 1e9:.2f} GB/s")
    print(
        f"  background  stall {background:7.3f} s   {background / waiting:.1%} of it; committed "
        f"after {statistics.median(until_written[1:]):.3f} s; the first one "
        f"{stalls['background'][0]:.3f} s"
    )


def measure_runs(
    folder: Path, shape: dict[str, int], *, steps: int, every: int, repeats: int
) -> None:
    """Prints how long the same run takes with checkpoints in both ways, and without; medians."""
    text = folder / "text"
    text.mkdir()
    for i in range(200):
        (text / f"{i}.txt").write_text(f"line {i} of some text that repeats itself\n" * 200)
    tokens = shape["context"]
    overrides = [
        *(f"model.{key}={value}" for key, value in shape.items()),
        "model.vocab_size=257", f"data.path={text}", "data.tokenizer=bytes", "data.source=[]",
        "data.val_fraction=0.2",
        f"train.steps={steps}", f"train.tokens_per_step={tokens}", "train.micro_batch=1",
        "train.precision=fp32", "schedule.warmup_steps=0", "eval.every=0", f"eval.tokens={tokens}",
        "sample.every=0", "checkpoint.keep_last=2",
    ]  # fmt: skip
    ways = {"none": [f"checkpoint.every={10 * steps}"]} | {
        way: [f"checkpoint.every={every}", f"checkpoint.background={json.dumps(background)}"]
        for way, background in WAYS.items()
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    stalls: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(repeats):
        for way, settings in ways.items():
            recipe = load_recipe("minigpt-124m", [*overrides, *settings])
            session = new_run(recipe, folder / "run", report=unwatched)
            os.sync()
            begin = time.perf_counter()
            session.train()
            seconds[way].append(time.perf_counter() - begin)
            rows = read_json_lines(session.paths.events)
            made = [r for r in rows if r["event"] == "checkpoint" and 0 < r["step"] < steps]
            stalls[way] += [r["stall_seconds"] for r in made]
            shutil.rmtree(folder / "run")
        print(f"  turn {turn + 1}: " + ", ".join(f"{w} {s[-1]:.2f} s" for w, s in seconds.items()))
    number = (steps - 1) // every
    print(f"{steps} steps of {tokens} tokens, a checkpoint every {every}, {repeats} of each:")
    for way, all_seconds in seconds.items():
        total = statistics.median(all_seconds)
        line = f"  {way:<11} {total:7.2f} s"
        if stalls[way]:
            lost = (total - statistics.median(seconds["none"])) / number
            line += (
                f"   {lost:+.3f} s for each of {number} checkpoints, of which training waited "
                f"{statistics.median(stalls[way]):.3f} s (median)"
            )
        print(line)


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--shape", choices=SHAPES, default="124m")
    parser.add_argument("--saves", type=int, default=7)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--every", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=None, help="on the disk to be measured")
    arguments = parser.parse_args()
    shape = SHAPES[arguments.shape]
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        (Path(name) / "stalls").mkdir()
        measure_stalls(Path(name) / "stalls", shape, arguments.saves)
        if arguments.steps:
            measure_runs(
                Path(name),
                shape,
                steps=arguments.steps,
                every=arguments.every,
                repeats=arguments.repeats,
            )


if __name__ == "__main__":
    main()
