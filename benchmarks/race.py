"""The Shakespeare race: from process start to a saved model that is as good as nanoGPT's.

nanoGPT trains its own CPU recipe for character-level Tiny Shakespeare (README: block_size 64,
batch_size 12, 4 layers of 128, 2,000 steps, no dropout) on the first nine tenths, and we train
`shakespeare-race` on the same text. Each model's loss is then measured by the same code over the
whole last tenth, in consecutive windows of 64. Runs take turns; medians of the wall times.

    python benchmarks/race.py --nanogpt NANOGPT --text tiny_shakespeare.txt
    python benchmarks/race.py ... --whole-time    # and how far we get in nanoGPT's whole time
"""

from __future__ import annotations

import argparse
import os
import pickle
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import peers

NANOGPT = [
    "--device=cpu", "--compile=False", "--eval_iters=20", "--log_interval=100", "--block_size=64",
    "--batch_size=12", "--n_layer=4", "--n_head=4", "--n_embd=128", "--max_iters=2000",
    "--lr_decay_iters=2000", "--dropout=0.0",
]  # fmt: skip
LONG = ["train.steps=800", "train.tokens_per_step=2048", "train.micro_batch=32"]
CONTEXT = 64


def loss_of(model, ids: np.ndarray) -> float:
    """Nats a character over all of `ids`, in windows of 64; `model` maps ids to logits."""
    import torch
    import torch.nn.functional as F

    tokens = torch.from_numpy(ids.astype(np.int64))
    n = (len(tokens) - 1) // CONTEXT
    inputs = tokens[: n * CONTEXT].view(n, CONTEXT)
    targets = tokens[1 : n * CONTEXT + 1].view(n, CONTEXT)
    total = 0.0
    with torch.inference_mode():
        for i in range(0, n, 256):
            logits = model(inputs[i : i + 256]).double()
            total += F.cross_entropy(
                logits.flatten(0, 1), targets[i : i + 256].flatten(), reduction="sum"
            ).item()
    return total / (n * CONTEXT)


def nanogpt_run(folder: Path, train: str, last: str, work: Path) -> tuple[float, float]:
    """Seconds and loss of nanoGPT's recipe, in a copy of the clone."""
    import torch

    clone = work / "nanoGPT"
    shutil.copytree(folder, clone, ignore=shutil.ignore_patterns(".git"))
    data = clone / "data" / "shakespeare_char"
    chars = sorted(set(train + last))
    code = {c: i for i, c in enumerate(chars)}
    for name, text in (("train", train), ("val", last)):
        np.array([code[c] for c in text], dtype=np.uint16).tofile(data / f"{name}.bin")
    meta = {"vocab_size": len(chars), "stoi": code, "itos": dict(enumerate(chars))}
    (data / "meta.pkl").write_bytes(pickle.dumps(meta))
    command = [sys.executable, "train.py", "config/train_shakespeare_char.py", *NANOGPT]
    begin = time.perf_counter()
    subprocess.run(command, cwd=clone, check=True, capture_output=True)
    seconds = time.perf_counter() - begin
    peer = peers.import_model(clone)
    saved = torch.load(clone / "out-shakespeare-char" / "ckpt.pt", weights_only=False)
    model = peer.GPT(peer.GPTConfig(**saved["model_args"]))
    model.load_state_dict(saved["model"])
    model.eval()

    def logits(ids):
        return model(ids, ids)[0]  # with targets it gives logits of every position

    return seconds, loss_of(logits, np.array([code[c] for c in last]))


def our_run(train: str, last: str, work: Path, overrides: list[str]) -> tuple[float, float]:
    """Seconds, those of preparing the text included, and loss of `train shakespeare-race`."""
    from fromscratch.checkpoint.bundle import load_bundle

    (work / "train.txt").write_text(train)
    command = [
        sys.executable, "-m", "fromscratch", "train", "shakespeare-race",
        "data.path=train.txt", "--run", "run", *overrides,
    ]  # fmt: skip
    # No text prepared by an earlier run is there: its folder is new.
    begin = time.perf_counter()
    subprocess.run(command, cwd=work, check=True, capture_output=True, env=dict(os.environ))
    seconds = time.perf_counter() - begin
    bundle = load_bundle(work / "run" / "checkpoints" / "latest")
    return seconds, loss_of(bundle.model, np.array(bundle.tokenizer.encode(last)))


def main() -> None:
    """Lets both run in turns and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    peers.add_argument(parser)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--whole-time", action="store_true")
    parser.add_argument("overrides", nargs="*", help="of our recipe")
    given = parser.parse_args()
    text = given.text.read_text(encoding="utf-8")
    cut = int(len(text) * 0.9)
    train, last = text[:cut], text[cut:]
    results: dict[str, list[tuple[float, float]]] = {}
    for number in range(given.turns):
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            found = {"nanoGPT": nanogpt_run(given.nanogpt.resolve(), train, last, work)}
            found["ours"] = our_run(train, last, work, given.overrides)
            if given.whole_time and number == 0:
                shutil.rmtree(work / "run")
                found["ours, longer"] = our_run(train, last, work, LONG)
        for name, (seconds, loss) in found.items():
            print(f"{name}: {seconds:.1f} s, loss {loss:.4f}", flush=True)
            results.setdefault(name, []).append((seconds, loss))
    peer = statistics.median(s for s, _ in results["nanoGPT"])
    print("|  | seconds, median | of nanoGPT's | loss on the last tenth, worst |")
    print("|---|---|---|---|")
    for name, rows in results.items():
        seconds = statistics.median(s for s, _ in rows)
        worst = max(loss for _, loss in rows)
        print(f"| {name} | {seconds:.1f} | 1/{peer / seconds:.2f} | {worst:.4f} |")


if __name__ == "__main__":
    main()
