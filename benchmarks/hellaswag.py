"""HellaSwag on our side and on lm-evaluation-harness's Hugging Face backend: items per second.

The same random GPT-2 weights, the same items, float32, the same cores. Both take turns in one
process, each turn from texts to log-probabilities, so that a busy machine slows both; the ratio is
the median over turns. The harness runs once for each batch size that is given, and its best counts.
That both give the same log-probabilities is checked in every turn.

    python benchmarks/hellaswag.py hellaswag_val.jsonl                        # GPT-2 124M
    python benchmarks/hellaswag.py hellaswag_val.jsonl --items 8 --layers 2 --width 64
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fromscratch.checkpoint.bundle import load_bundle
from fromscratch.evaluate.hellaswag import HellaSwag, harness_text
from fromscratch.evaluate.hellaswag_items import choose, read_hellaswag
from fromscratch.evaluate.multiple_choice import answer_items
from fromscratch.tokenizer.build import gpt2_tokenizer


def make_model(folder: Path, layers: int, width: int) -> None:
    """A random GPT-2 with its tokenizer, as a Hugging Face folder."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    heads = max(1, width // 64)
    GPT2LMHeadModel(GPT2Config(n_layer=layers, n_head=heads, n_embd=width)).save_pretrained(folder)
    gpt2_tokenizer().save(folder, context=1024)


def main() -> None:
    """Reads the options, makes the model and compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path, help="HellaSwag's JSON lines")
    parser.add_argument("--items", type=int, default=32)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--batch-tokens", type=int, default=8192, help="of ours: as `eval` has it")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder), options.layers, options.width)
        compare(Path(folder), options)


def compare(folder: Path, options: argparse.Namespace) -> None:
    """Lets both sides take turns, and prints what came of it."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    bundle = load_bundle(folder)
    every = read_hellaswag(str(options.file))
    items = choose(every, options.items)
    theirs = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=1)
    requests = [
        Instance(request_type="loglikelihood", doc={}, arguments=(question, f" {answer}"), idx=i)
        for question, answers in map(harness_text, items)
        for i, answer in enumerate(answers)
    ]

    def ours() -> list[float]:
        data = HellaSwag(items, "harness", bundle.tokenizer, str(options.file), len(every))
        answers = answer_items(bundle.model, data.encoded, batch_tokens=options.batch_tokens)
        return [x for answer in answers for x in answer.logprobs]

    def harness(batch_size: int) -> Callable[[], list[float]]:
        def run() -> list[float]:
            theirs.batch_size_per_gpu = batch_size
            return [x for x, _ in theirs.loglikelihood(requests, disable_tqdm=True)]

        return run

    sides: dict[str, Callable[[], list[float]]] = {"ours": ours}
    sides |= {f"lm-eval, batch {size}": harness(size) for size in options.batch_sizes}
    ours()  # warms up
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(options.turns):
        scores: dict[str, Any] = {}
        for name, run in sides.items():
            begin = time.perf_counter()
            scores[name] = run()
            rates[name].append(len(items) / (time.perf_counter() - begin))
        worst = max(
            abs(a - b) for name in sides for a, b in zip(scores["ours"], scores[name], strict=True)
        )
        assert worst < 0.01, f"log-probabilities differ by {worst}"
    print(f"{len(items)} items, {options.layers} layers of {options.width}, "
          f"{options.threads} threads, log-probabilities equal within {worst:.1e}")  # fmt: skip
    for name, of_side in rates.items():
        ratio = statistics.median(a / b for a, b in zip(rates["ours"], of_side, strict=True))
        rate = statistics.median(of_side)
        print(f"{name:20} {rate:8.2f} items/s   ours is {ratio:5.2f} times as fast")


if __name__ == "__main__":
    main()
