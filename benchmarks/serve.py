"""How much the server gains from writing several texts at once, and what a minute of load leaves.

A model of GPT-2's shape with random weights is served by the real command; clients stream answers
over HTTP, with real prompts' lengths, and tokens are counted as they arrive. One stream and eight
are timed in turns, so that a busy machine slows both; medians.

    python benchmarks/serve.py                  # 8 streams beside one
    python benchmarks/serve.py --load 60        # and a minute of clients that come, leave and err
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from fromscratch.checkpoint.bundle import save_model
from fromscratch.model.config import ModelConfig
from fromscratch.model.gpt import GPT
from fromscratch.tokenizer.build import bytes_tokenizer, gpt2_tokenizer

HEADERS = {"content-type": "application/json"}


def make_model(folder: Path, *, tiny: bool) -> None:
    """A model folder of GPT-2's shape, or of a few thousand weights."""
    if tiny:
        config = ModelConfig(
            family="modern", n_layer=2, n_head=4, d_model=64, context=1024, vocab_size=257,
            padded_vocab=320,
        )  # fmt: skip
        save_model(folder, GPT(config), bytes_tokenizer())
        return
    config = ModelConfig(family="gpt2", n_layer=12, n_head=12, d_model=768, d_ff=3072,
                         context=1024, vocab_size=50257, padded_vocab=50304)  # fmt: skip
    save_model(folder, GPT(config), gpt2_tokenizer())


@contextmanager
def served(folder: Path, *options: str):
    """The command's port and process."""
    command = [sys.executable, "-m", "fromscratch", "serve", str(folder), "--port", "0", *options]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    found = re.search(r":(\d+)$", program.stdout.readline().strip())
    port = int(found[1])
    while True:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                break
        except OSError:
            time.sleep(0.1)
    try:
        yield port, program.pid
    finally:
        program.terminate()
        program.wait(30)


def stream(port: int, n_prompt: int, n_new: int) -> list[float]:
    """One streamed completion; when each piece of its text arrived."""
    body = {
        "prompt": random.choices(range(200), k=n_prompt), "max_tokens": n_new, "stream": True,
        "logprobs": 0, "logit_bias": {"50256": -100},
    }  # fmt: skip
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    connection.request("POST", "/v1/completions", json.dumps(body), HEADERS)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    times = []
    for line in answer:
        if line.startswith(b'data: {"id"'):
            choice = json.loads(line[6:])["choices"][0]
            if choice["logprobs"]:
                times += [time.perf_counter()] * len(choice["logprobs"]["tokens"])
    connection.close()
    return times


def rate(port: int, streams: int, n_prompt: int, n_new: int) -> float:
    """Tokens a second of all streams together, while all of them are being written."""
    found: list[list[float]] = []
    threads = [
        threading.Thread(target=lambda: found.append(stream(port, n_prompt, n_new)))
        for _ in range(streams)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    begin, end = max(t[0] for t in found), min(t[-1] for t in found)
    return sum(begin < at <= end for times in found for at in times) / (end - begin)


def resident(pid: int) -> float:
    """Megabytes of memory that a process has."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", text)[1]) / 1000


def load(port: int, pid: int, seconds: float, clients: int = 16) -> tuple[list[float], dict]:
    """Clients that come, stay, leave in the middle, and err; memory each second, and what was."""
    stop = time.monotonic() + seconds
    counts = {"answered": 0, "left": 0, "refused": 0}
    lock = threading.Lock()

    def client(seed: int) -> None:
        draw = random.Random(seed)
        while time.monotonic() < stop:
            kind = draw.choice(("answered", "answered", "left", "refused"))
            body = {"prompt": "x" * draw.randint(1, 300), "max_tokens": draw.randint(1, 120),
                    "stream": draw.random() < 0.5, "logprobs": 5}  # fmt: skip
            if kind == "refused":
                body["tools"] = [1]
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            try:
                connection.request("POST", "/v1/completions", json.dumps(body), HEADERS)
                if kind == "left":
                    time.sleep(draw.random() * 0.05)
                else:
                    answer = connection.getresponse()
                    answer.read()
                    expected = {"answered": (200, 429), "refused": (400,)}[kind]
                    assert answer.status in expected, answer.status
            finally:
                connection.close()
            with lock:
                counts[kind] += 1

    threads = [threading.Thread(target=client, args=(n,)) for n in range(clients)]
    for thread in threads:
        thread.start()
    memory = []
    while time.monotonic() < stop:
        memory.append(resident(pid))
        time.sleep(min(1.0, seconds / 20))
    for thread in threads:
        thread.join()
    return memory, counts


def main() -> None:
    """Prints what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--new", type=int, default=48)
    parser.add_argument("--prompt", type=int, default=32)
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--quantize", choices=["int8"])
    parser.add_argument("--load", type=float, default=0.0, help="seconds of load, tiny model")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        if arguments.load:
            folder = Path(place) / "tiny"
            folder.mkdir()
            make_model(folder, tiny=True)
            with served(folder) as (port, pid):
                load(port, pid, 5)  # every slot and thread has been used
                memory, counts = load(port, pid, arguments.load)
                third = max(1, len(memory) // 3)
                first, last = statistics.median(memory[:third]), statistics.median(memory[-third:])
                print(f"load {arguments.load:.0f} s: {counts}; memory {first:.1f} MB in the first "
                      f"third, {last:.1f} MB in the last")  # fmt: skip
            return
        folder = Path(place) / "gpt2-shape"
        folder.mkdir()
        make_model(folder, tiny=False)
        options = ["--quantize", arguments.quantize] if arguments.quantize else []
        with served(folder, *options) as (port, _):
            rate(port, arguments.streams, arguments.prompt, 8)
            rates: dict[int, list[float]] = {1: [], arguments.streams: []}
            for _ in range(arguments.repeats):
                for streams in rates:
                    rates[streams].append(rate(port, streams, arguments.prompt, arguments.new))
        for streams, found in rates.items():
            print(f"{streams} streams: {statistics.median(found):.1f} tokens/s  "
                  f"({', '.join(f'{r:.1f}' for r in sorted(found))})")  # fmt: skip
        one, many = (statistics.median(found) for found in rates.values())
        print(f"together {many / one:.2f} times one; cores {os.cpu_count()}")


if __name__ == "__main__":
    main()
