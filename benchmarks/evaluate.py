"""Loss on text beside transformers: the same weights, the same windows, the same cores.

What people write for this is Hugging Face's guide on perplexity: `GPT2LMHeadModel` called with
labels, window by window. Ours and the peer take turns on the same windows, each turn in a process
of its own, so that a busy machine slows both; the medians of tokens per second and their ratio are
printed, with each one's peak memory (VmHWM) and loss, which must agree. The peer is run with one
window at a time, as the guide does, and with as many as ours.

    python benchmarks/evaluate.py                       # GPT-2 124M, random weights, 8 windows
    python benchmarks/evaluate.py --shape small --windows 64 --turns 3
    python benchmarks/evaluate.py --model openai-community/gpt2 --device cuda --windows 200
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHAPES = {
    "124m": {"n_layer": 12, "n_head": 12, "n_embd": 768, "n_positions": 1024},
    "small": {"n_layer": 4, "n_head": 4, "n_embd": 256, "n_positions": 256},
}
VOCAB = 50_257
WHO = ("transformers, one window", "transformers, batches", "ours")


def peak_memory() -> int:
    """The most memory that this process ever had, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def make_model(folder: Path, shape: str) -> None:
    """A GPT-2 with random weights, as transformers saves one."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB, **SHAPES[shape])).save_pretrained(folder)


def tokens(n: int):
    """Ids of one made-up document; how fast they are scored does not depend on which they are."""
    import numpy as np

    return np.random.default_rng(0).integers(0, VOCAB - 1, n)


def theirs(model: str, n_windows: int, batch: int, device: str) -> tuple[float, float]:
    """Seconds and nats per token of the guide's loop, its model loaded and warm."""
    import torch
    from transformers import AutoModelForCausalLM

    gpt = AutoModelForCausalLM.from_pretrained(model).to(device).eval()
    context = gpt.config.n_positions
    eot = VOCAB - 1
    stream = torch.from_numpy(tokens(n_windows * context - 1))
    stream = torch.cat((torch.tensor([eot]), stream, torch.tensor([eot])))

    def score(rows: torch.Tensor) -> float:
        out = gpt(rows[:, :-1], use_cache=False).logits
        return float(
            torch.nn.functional.cross_entropy(
                out.flatten(0, 1), rows[:, 1:].flatten(), reduction="sum"
            )
        )

    windows = stream.unfold(0, context + 1, context).to(device)
    with torch.inference_mode():
        score(windows[:batch])
        begin = time.perf_counter()
        nats = sum(score(windows[i : i + batch]) for i in range(0, n_windows, batch))
        return time.perf_counter() - begin, nats / (n_windows * context)


def ours(model: str, n_windows: int, batch: int, device: str) -> tuple[float, float]:
    """The same of this package."""
    import torch

    from fromscratch.checkpoint.bundle import load_model, model_folder
    from fromscratch.evaluate.text_loss import TokenDocument, document_losses
    from fromscratch.evaluate.text_windows import Protocol
    from fromscratch.train.precision import Precision

    gpt = load_model(model_folder(model)).to(device).eval()
    context = gpt.config.context
    ids = tokens(n_windows * context - 1)

    def score(document: TokenDocument) -> float:
        (found,) = document_losses(
            gpt,
            [document],
            Protocol(context, context),
            eot_id=VOCAB - 1,
            batch_size=batch,
            precision=Precision("fp32", torch.device(device)),
        )
        return found.nats / found.n_targets

    score(TokenDocument(ids[: batch * context - 1], 1))
    begin = time.perf_counter()
    loss = score(TokenDocument(ids, 1))
    return time.perf_counter() - begin, loss


def turn(who: str, model: str, n_windows: int, batch: int, device: str) -> None:
    """One turn, in this process; prints JSON."""
    if who == "ours":
        seconds, loss = ours(model, n_windows, batch, device)
    else:
        rows = 1 if who == "transformers, one window" else batch
        seconds, loss = theirs(model, n_windows, rows, device)
    print(json.dumps({"seconds": seconds, "loss": loss, "memory": peak_memory()}))


def main() -> None:
    """Takes turns and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", help="a GPT-2 folder or hub name [random weights]")
    parser.add_argument("--shape", choices=SHAPES, default="124m")
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--turn", choices=WHO, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.turn:
        turn(given.turn, given.model, given.windows, given.batch, given.device)
        return
    with tempfile.TemporaryDirectory() as folder:
        if given.model is None:
            make_model(Path(folder), given.shape)
        model = given.model or folder
        results: dict[str, list[dict[str, float]]] = {who: [] for who in WHO}
        for _ in range(given.turns):
            for who in WHO:
                command = [sys.executable, __file__, "--turn", who, "--model", model]
                command += ["--windows", str(given.windows), "--batch", str(given.batch)]
                command += ["--device", given.device]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                results[who].append(json.loads(done.stdout.splitlines()[-1]))
    context = SHAPES[given.shape]["n_positions"] if given.model is None else 1024
    median = {w: statistics.median(r["seconds"] for r in rows) for w, rows in results.items()}
    print(f"{given.windows} windows of {context}, {given.turns} turns, {given.device}")
    for who, rows in results.items():
        rate = given.windows * context / median[who]
        memory = max(r["memory"] for r in rows) / 1e9
        print(
            f"{who:28}{rate:12,.0f} tokens/s   {median[who] and median[WHO[0]] / median[who]:5.2f}x"
            f"   {memory:6.2f} GB   {rows[0]['loss']:.6f} nats/token"
        )


if __name__ == "__main__":
    main()
