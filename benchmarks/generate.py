"""Generation beside transformers: the same random weights, the same prompts, the same cores.

In one process, in turns, each turn a greedy continuation of every kind; medians over the turns.
`tokens/s` is that of the whole call, the prompt's reading included; `decoding` leaves out the time
to the first token. The roofline is measured in the same turns: a sum over every matrix that a token
needs, which reads each weight once; and the same with the keys and values of the prompt, of every
layer, which a token needs as well. Every continuation of ours in float32 is compared with
transformers': the first tokens must be the same (after a near-tie two correct programs part).

    python benchmarks/generate.py                              # GPT-2 124M, 2 threads, 5 turns
    python benchmarks/generate.py --quality RUN --text FILE    # what eight bits cost, on real text
"""

from __future__ import annotations

import argparse
import copy
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

SHAPES = {
    "124m": {"n_layer": 12, "n_head": 12, "n_embd": 768, "n_positions": 1024},
    "small": {"n_layer": 4, "n_head": 4, "n_embd": 256, "n_positions": 512},
}
VOCAB = 50_257
BATCH = 8


class Clock:
    """When each token came, of one call."""

    def __init__(self) -> None:
        self.begin = time.perf_counter()
        self.at: list[float] = []

    def tick(self) -> None:
        """A token came, or one for each row."""
        self.at.append(time.perf_counter())

    @property
    def whole(self) -> float:
        """Tokens a second of the call, for one row."""
        return len(self.at) / (self.at[-1] - self.begin)

    @property
    def decoding(self) -> float:
        """The same after the first token; by the median, so that one hiccup is one token's."""
        steps = [b - a for a, b in zip(self.at, self.at[1:], strict=False)]
        return 1 / statistics.median(steps)


def theirs(model, prompts, new: int) -> tuple[Clock, list[int]]:
    """Transformers' `generate`."""
    import torch
    from transformers import StoppingCriteria

    clock = Clock()

    class Ticks(StoppingCriteria):
        def __call__(self, ids, scores, **kwargs):
            clock.tick()
            return torch.zeros(len(ids), dtype=torch.bool)

    out = model.generate(
        prompts,
        attention_mask=torch.ones_like(prompts),
        max_new_tokens=new,
        min_new_tokens=new,
        do_sample=False,
        stopping_criteria=[Ticks()],
        pad_token_id=0,
    )
    return clock, out[0, prompts.shape[1] :].tolist()


def ours(model, prompts, new: int) -> tuple[Clock, list[int]]:
    """Our stream of one prompt, or our batch of several."""
    from fromscratch.generate.batch import generate_batch
    from fromscratch.generate.engine import generate_ids
    from fromscratch.generate.sampling import SamplingOptions

    greedy, rows = SamplingOptions(temperature=0.0), prompts.tolist()
    clock = Clock()
    if len(rows) > 1:
        # The last row begins last: from then on each of its tokens is one of every row.
        def is_done(number: int, ids: list[int]) -> bool:
            if number == len(rows) - 1:
                clock.tick()
            return False

        told = generate_batch(model, rows, max_new_tokens=new, options=greedy, is_done=is_done)
        return clock, told[0]
    ids = []
    for token in generate_ids(model, rows[0], max_new_tokens=new, options=greedy):
        clock.tick()
        ids.append(token)
    return clock, ids


def seconds_to_read(tensors) -> float:
    """How long it takes to read them all once."""
    begin = time.perf_counter()
    for tensor in tensors:
        tensor.sum()
    return time.perf_counter() - begin


def speed(given: argparse.Namespace) -> None:
    """Prints the table of speeds."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from fromscratch.checkpoint.bundle import load_model
    from fromscratch.generate.ready import quantize
    from fromscratch.model.kv_cache import KVCache

    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    peer = GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB, **SHAPES[given.shape])).eval()
    with tempfile.TemporaryDirectory() as folder:
        peer.save_pretrained(folder)
        model = load_model(Path(folder)).eval()
    packed = copy.deepcopy(model)  # slots keep a second copy of the weights in another order
    eight = quantize(copy.deepcopy(model), "int8")
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and "positions" not in n]
    draw = torch.Generator().manual_seed(1)
    sizes = {(length, 1): None for length in given.prompts} | {(32, BATCH): None}
    prompts = {size: torch.randint(0, VOCAB, size[::-1], generator=draw) for size in sizes}
    who: dict[str, Callable] = {
        "transformers": lambda ids, new: theirs(peer, ids, new),
        "ours": lambda ids, new: ours(model if len(ids) == 1 else packed, ids, new),
        "ours, int8": lambda ids, new: ours(eight, ids, new),
    }
    clocks: dict[tuple, list[Clock]] = {}
    reads: dict[tuple, list[tuple[float, float]]] = {}
    caches = {}
    for length, rows in sizes:
        cache = KVCache(model.config, rows)
        views = [x[:, :, :length] for kept in (cache.keys, cache.values) for x in kept.zero_()]
        caches[length, rows] = views
    with torch.inference_mode():
        for turn in range(given.turns + 1):  # the first one warms up
            for size, ids in prompts.items():
                told = {}
                for name, run in who.items():
                    read = [
                        (seconds_to_read(matrices), seconds_to_read(caches[size])) for _ in range(5)
                    ]
                    clock, told[name] = run(ids, given.new if turn else 4)
                    if turn:
                        clocks.setdefault((size, name), []).append(clock)
                        reads.setdefault(size, []).extend(read)
                same = [a == b for a, b in zip(told["ours"], told["transformers"], strict=True)]
                print(f"{size}: the same first {[*same, False].index(False)}", file=sys.stderr)
    report(clocks, reads)


def report(clocks: dict, reads: dict) -> None:
    """Prints the table."""
    print(
        "| prompt x rows | | tokens/s | against transformers | decoding | of the weights' roofline "
        "| with the cache's |"
    )
    print("|---|---|---|---|---|---|---|")
    for (size, name), seen in clocks.items():
        rows = size[1]
        whole = rows * statistics.median(c.whole for c in seen)
        peer = rows * statistics.median(c.whole for c in clocks[size, "transformers"])
        decoding = rows * statistics.median(c.decoding for c in seen)
        weights = 1 / statistics.median(w for w, _ in reads[size])
        both = 1 / statistics.median(w + c for w, c in reads[size])
        print(
            f"| {size[0]} x {rows} | {name} | {whole:.1f} | {whole / peer:.2f} | {decoding:.1f} | "
            f"{decoding / rows / weights:.0%} of {weights:.0f} | {decoding / rows / both:.0%} of "
            f"{both:.0f} |"
        )
    print(f"load while this ran: {', '.join(f'{load:.1f}' for load in os.getloadavg())}")


def quality(model: str, text: Path) -> None:
    """Prints what eight bits cost."""
    from fromscratch.checkpoint.bundle import load_bundle
    from fromscratch.evaluate.quantized import cost_of_quantizing

    cost = cost_of_quantizing(load_bundle(model), [text.read_text(encoding="utf-8")])
    print(f"float32 {cost.before:.4f} bits per byte, int8 {cost.after:.4f}: {cost.added:+.4f}")


def main() -> None:
    """Measures what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="124m")
    parser.add_argument("--prompts", type=int, nargs="+", default=[32, 256])
    parser.add_argument("--new", type=int, default=32, help="tokens of each continuation")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quality", metavar="MODEL")
    parser.add_argument("--text", type=Path)
    given = parser.parse_args()
    if given.quality:
        quality(given.quality, given.text)
    else:
        speed(given)


if __name__ == "__main__":
    main()
