"""The training step beside nanoGPT's: the same shape, the same batch, float32, the same cores.

Ours and the peer take turns, each turn in a process of its own, so that neither has the other's
memory allocator and a busy machine slows both; medians over all turns. Memory is the process's peak
(VmHWM). The share of the matrix product's peak counts a forward and backward pass of the parameters
that take part in products, and attention (`flops_per_token`), against the best of several square
products timed in the same turn.

    python benchmarks/step.py --nanogpt NANOGPT              # GPT-2 124M at 1 x 1024
    python benchmarks/step.py --nanogpt NANOGPT --shape 384  # 6 layers of 384 at 8 x 256
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import peers

SHAPES = {
    "124m": {"n_layer": 12, "n_head": 12, "d_model": 768, "context": 1024, "batch": 1},
    "384": {"n_layer": 6, "n_head": 6, "d_model": 384, "context": 256, "batch": 8},
}
WHO = ("nanoGPT", "nanoGPT, compiled", "ours", "ours, compiled")


def peak_memory() -> int:
    """The most memory that this process ever had, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def product_flops() -> float:
    """FLOP/s of a matrix product, the best of a few of each of three sizes."""
    import torch

    best = 0.0
    for size in (1024, 2048, 3072):
        left, right = torch.randn(size, size), torch.randn(size, size)
        for _ in range(4):
            begin = time.perf_counter()
            torch.mm(left, right)
            best = max(best, 2 * size**3 / (time.perf_counter() - begin))
    return best


def nanogpt_step(folder: Path, shape: dict[str, int], compiled: bool) -> Callable[[], object]:
    """A step of nanoGPT."""
    import torch

    peer = peers.import_model(folder)
    model = peer.GPT(
        peer.GPTConfig(
            block_size=shape["context"],
            vocab_size=50304,
            n_layer=shape["n_layer"],
            n_head=shape["n_head"],
            n_embd=shape["d_model"],
            dropout=0.0,
            bias=True,
        )
    )
    optimizer = model.configure_optimizers(0.1, 6e-4, (0.9, 0.95), "cpu")
    forward = torch.compile(model) if compiled else model
    ids, targets = batch(shape)

    def step() -> None:  # as its train.py does, without its data loading
        _, loss = forward(ids, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def our_step(shape: dict[str, int], compiled: bool) -> Callable[[], object]:
    """A step of ours."""
    from fromscratch.data.batches import Batch
    from fromscratch.foundation.host_memory import keep_freed_memory
    from fromscratch.foundation.schedules import StepSettings
    from fromscratch.model.config import ModelConfig
    from fromscratch.model.gpt import GPT
    from fromscratch.optim.build import build_optimizers
    from fromscratch.optim.config import OptimConfig
    from fromscratch.train.compiled import compile_blocks
    from fromscratch.train.objectives import next_token_loss
    from fromscratch.train.step import train_step

    keep_freed_memory()  # as `train` does
    sizes = {key: value for key, value in shape.items() if key != "batch"}
    config = ModelConfig(family="gpt2", vocab_size=50257, padded_vocab=50304, dropout=0.0, **sizes)
    model = GPT(config).train()
    if compiled and (problem := compile_blocks(model, shape["batch"])):
        sys.exit(problem)
    optimizers = build_optimizers(model, OptimConfig())
    ids, targets = batch(shape)
    return lambda: train_step(
        model, next_token_loss, optimizers, [Batch(ids, targets)], settings=StepSettings(clip=1.0)
    )


def batch(shape: dict[str, int]):
    """Ids and targets, the same for both."""
    import torch

    torch.manual_seed(0)
    size = (shape["batch"], shape["context"])
    return torch.randint(0, 50257, size), torch.randint(0, 50257, size)


def turn(who: str, shape: dict[str, int], nanogpt: Path, steps: int) -> None:
    """Times some steps and prints what was seen as JSON."""
    compiled = who.endswith("compiled")
    product = product_flops()
    step = (
        our_step(shape, compiled)
        if who.startswith("ours")
        else nanogpt_step(nanogpt, shape, compiled)
    )
    for _ in range(2):
        step()
    seconds = []
    for _ in range(steps):
        begin = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - begin)
    print(json.dumps({"seconds": seconds, "memory": peak_memory(), "product": product}))


def main() -> None:
    """Lets both take turns and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    peers.add_argument(parser)
    parser.add_argument("--shape", choices=SHAPES, default="124m")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="timed in each turn")
    parser.add_argument("--no-compile", action="store_true", help="leave out the compiled ones")
    parser.add_argument("--only", choices=WHO, help=argparse.SUPPRESS)
    given = parser.parse_args()
    shape = SHAPES[given.shape]
    if given.only:
        turn(given.only, shape, given.nanogpt, given.steps)
        return
    who = [w for w in WHO if not (given.no_compile and w.endswith("compiled"))]
    seen: dict[str, list[dict]] = {w: [] for w in who}
    for _ in range(given.turns):
        for name in who:
            done = subprocess.run(
                [sys.executable, *sys.argv, "--only", name],
                capture_output=True,
                text=True,
                check=True,
            )
            seen[name].append(json.loads(done.stdout.splitlines()[-1]))
    report(shape, seen)


def report(shape: dict[str, int], seen: dict[str, list[dict]]) -> None:
    """Prints the table."""
    from fromscratch.model.config import ModelConfig
    from fromscratch.model.count import flops_per_token

    sizes = {key: value for key, value in shape.items() if key != "batch"}
    flops = flops_per_token(ModelConfig(family="gpt2", vocab_size=50257, **sizes))
    tokens = shape["batch"] * shape["context"]
    product = statistics.median(s["product"] for rows in seen.values() for s in rows)
    peer_memory = statistics.median(s["memory"] for s in seen["nanoGPT"])
    peer_seconds = statistics.median(t for s in seen["nanoGPT"] for t in s["seconds"])
    print(f"a matrix product reaches {product / 1e9:.0f} GFLOP/s")
    print("|  | s a step | tokens/s | against nanoGPT | of the product's rate | peak memory |")
    print("|---|---|---|---|---|---|")
    for name, rows in seen.items():
        seconds = statistics.median(t for s in rows for t in s["seconds"])
        memory = statistics.median(s["memory"] for s in rows)
        print(
            f"| {name} | {seconds:.3f} | {tokens / seconds:,.0f} | {peer_seconds / seconds:.2f} | "
            f"{tokens * flops / seconds / product:.0%} | {memory / 2**20:,.0f} MiB "
            f"({memory / peer_memory:.2f}) |"
        )


if __name__ == "__main__":
    main()
