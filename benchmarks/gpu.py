"""What only a GPU can show, as one table: speed beside nanoGPT, MFU, peak memory, 8-bit state.

Each row is a process of its own, so that memory peaks do not mix. Speed: medians over steps after
the compiler has done its work, synchronised. The rate of a matrix product (bf16, the best of three
sizes) is measured first, in the same run; MFU against it and against the data sheet.

    python benchmarks/gpu.py --nanogpt NANOGPT
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

BATCHES = (8, 12, 16, 24, 32, 48, 64)
GPT2 = {"n_layer": 12, "n_head": 12, "d_model": 768, "context": 1024}


def product_flops() -> float:
    """FLOP/s of a bf16 matrix product on this GPU."""
    import torch

    best = 0.0
    for size in (4096, 8192, 12288):
        left = torch.randn(size, size, device="cuda", dtype=torch.bfloat16)
        right = torch.randn(size, size, device="cuda", dtype=torch.bfloat16)
        for _ in range(10):
            torch.cuda.synchronize()
            begin = time.perf_counter()
            torch.mm(left, right)
            torch.cuda.synchronize()
            best = max(best, 2 * size**3 / (time.perf_counter() - begin))
    return best


def timed(step: Callable[[], object], steps: int = 20) -> float:
    """Median seconds of a step, after five that warm up."""
    import torch

    for _ in range(5):
        step()
    seconds = []
    for _ in range(steps):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        step()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return statistics.median(seconds)


def nanogpt(folder: Path, batch: int) -> dict[str, float]:
    """Its GPT-2 124M, compiled, bf16, fused AdamW, as its bench.py runs it."""
    import torch

    peer = peers.import_model(folder)
    torch.backends.cuda.matmul.allow_tf32 = True
    model = peer.GPT(peer.GPTConfig(block_size=1024, dropout=0.0, bias=True)).to("cuda")
    optimizer = model.configure_optimizers(0.1, 6e-4, (0.9, 0.95), "cuda")
    forward = torch.compile(model)
    ids = torch.randint(0, 50257, (batch, 1024), device="cuda")

    def step() -> None:
        with torch.autocast("cuda", dtype=torch.bfloat16):
            _, loss = forward(ids, ids)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    seconds = timed(step)
    return {"tokens_per_s": batch * 1024 / seconds, "memory": torch.cuda.max_memory_allocated()}


def ours(recipe: str, batch: int, overrides: list[str]) -> dict[str, float]:
    """A shipped recipe's step at a micro-batch, compiled as a run on this GPU would be."""
    import torch

    from fromscratch.data.batches import Batch
    from fromscratch.model.count import flops_per_token
    from fromscratch.model.gpt import GPT
    from fromscratch.optim.build import build_optimizers
    from fromscratch.runs.recipe_files import load_recipe
    from fromscratch.train.compiled import compile_blocks
    from fromscratch.train.objectives import next_token_loss
    from fromscratch.train.precision import choose_precision
    from fromscratch.train.step import train_step

    chosen = load_recipe(recipe, overrides)
    device = torch.device("cuda")
    precision = choose_precision("bf16", device)
    model = GPT(chosen.model).to(device).train()
    problem = compile_blocks(model, batch, autocast=precision.autocast)
    optimizers = build_optimizers(model, chosen.optim)
    shape = (batch, chosen.model.context)
    ids = torch.randint(0, chosen.model.vocab_size, shape, device=device)
    settings = chosen.settings(1000).at(10)

    def step() -> None:
        train_step(
            model, next_token_loss, optimizers, [Batch(ids, ids)],
            settings=settings, autocast=precision.autocast,
        )  # fmt: skip

    torch.cuda.reset_peak_memory_stats()
    seconds = timed(step)
    state = sum(t.numel() * t.element_size() for t in optimizers.state().values())
    return {
        "tokens_per_s": batch * chosen.model.context / seconds,
        "flops_per_token": flops_per_token(chosen.model),
        "memory": torch.cuda.max_memory_allocated(),
        "state": state,
        "compiled": problem is None,
    }


def row(kind: str, *arguments: str) -> dict[str, float]:
    """A measurement in a process of its own; empty where memory does not suffice."""
    command = [sys.executable, __file__, "--only", kind, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(f"{kind} {' '.join(arguments)}: {done.stderr.strip().splitlines()[-1][:160]}")
        return {}
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def best_batch(measure: Callable[[int], dict[str, float]]) -> tuple[int, dict[str, float]]:
    """The fastest of the batches that fit."""
    found = [(batch, measured) for batch in BATCHES if (measured := measure(batch))]
    return max(found, key=lambda pair: pair[1]["tokens_per_s"])


def table(given: argparse.Namespace) -> None:
    """Measures everything and prints it."""
    import torch

    name = torch.cuda.get_device_name()
    product = row("product")["flops"]
    print(f"{name}: a bf16 matrix product reaches {product / 1e12:.0f} TFLOP/s")
    print("|  | micro-batch | tokens/s | against nanoGPT | of the product's rate | peak memory |")
    print("|---|---|---|---|---|---|")

    def line(label: str, batch: int, found: dict[str, float], ratio: float | None) -> None:
        share = found.get("flops_per_token", 0) * found["tokens_per_s"] / product
        print(
            f"| {label} | {batch} | {found['tokens_per_s']:,.0f} | "
            f"{'' if ratio is None else f'{ratio:.2f}'} | {share:.0%} | "
            f"{found['memory'] / 2**30:.2f} GiB |",
            flush=True,
        )

    batch, peer = best_batch(lambda n: row("nanogpt", str(given.nanogpt), str(n)))
    gpt2 = ["model.dropout=0.0"]
    number, mine = best_batch(lambda n: row("ours", "minigpt-124m", str(n), *gpt2))
    peer["flops_per_token"] = mine["flops_per_token"]  # the same shape
    line("nanoGPT, GPT-2 124M, compiled", batch, peer, 1.0)
    line("ours, GPT-2 124M", number, mine, mine["tokens_per_s"] / peer["tokens_per_s"])
    number, modern = best_batch(lambda n: row("ours", "modern-124m", str(n)))
    line("ours, modern-124m", number, modern, None)
    for micro in (6, 18):
        found = row("ours", "rtx3090-163m", str(micro))
        if found:
            line("ours, rtx3090-163m (his 6 fitted 24 GiB)", micro, found, None)
    plain = row("ours", "rtx3090-163m", "6")
    eight = row("ours", "rtx3090-163m", "6", "optim.name=adamw8bit")
    if plain and eight:
        line("the same with 8-bit AdamW", 6, eight, None)
        print(f"8-bit AdamW's state is {eight['state'] / plain['state']:.1%} of fp32's")
    print("a resumed run's peak memory: pytest tests/gpu -k resume")


def main() -> None:
    """The table, or one of its measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nanogpt", type=Path, help="a clone of github.com/karpathy/nanoGPT")
    parser.add_argument("--only", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        kind, *rest = given.only
        if kind == "product":
            print(json.dumps({"flops": product_flops()}))
        elif kind == "nanogpt":
            print(json.dumps(nanogpt(Path(rest[0]), int(rest[1]))))
        else:
            print(json.dumps(ours(rest[0], int(rest[1]), rest[2:])))
        return
    import torch

    if not torch.cuda.is_available():
        sys.exit("There is no CUDA GPU here: nothing was measured.")
    if given.nanogpt is None:
        parser.error("--nanogpt is needed: the peer is measured in the same run")
    table(given)


if __name__ == "__main__":
    main()
