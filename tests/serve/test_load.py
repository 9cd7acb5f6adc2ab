"""Many clients for a few seconds: all are answered as they should be, and nothing is kept of them.

The full minute, with its figures, is `benchmarks/serve.py --load 60`.
"""

from __future__ import annotations

import gc
import random
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest

from fromscratch.checkpoint.bundle import ModelBundle
from fromscratch.serve.limits import Limits
from tests.serve.live import FOREVER, Live, serving, until


def come_and_go(live: Live, seed: int, until_then: float) -> dict[str, int]:
    """One client after the other: some stay, some leave in the middle, some err."""
    draw, counts = random.Random(seed), {"answered": 0, "left": 0, "refused": 0, "turned away": 0}
    while time.monotonic() < until_then:
        body = {
            "prompt": "x" * draw.randint(1, 40), "max_tokens": draw.randint(1, 30),
            "stream": draw.random() < 0.5, "logprobs": 3, "logit_bias": FOREVER,
        }  # fmt: skip
        kind = draw.choice(("answered", "left", "refused"))
        if kind == "left":
            connection = live.raw(body | {"max_tokens": 4000})
            time.sleep(draw.random() * 0.03)
            connection.close()
        elif kind == "refused":
            assert live.ask("/v1/completions", body | {"tools": [1]}).status == 400
        else:
            answer = live.ask("/v1/completions", body)
            assert answer.status in (200, 429)
            if answer.status == 429:
                kind = "turned away"
            elif body["stream"]:
                assert answer.body.endswith(b"data: [DONE]\n\n")
                assert answer.body.count(b'"ended_by":"max_tokens"') == 1
            else:
                assert answer.json["usage"]["completion_tokens"] == body["max_tokens"]
        counts[kind] += 1
    return counts


@pytest.mark.slow
def test_nothing_is_left_of_many_clients(talker: ModelBundle) -> None:
    with serving(talker, limits=Limits(parallel=4, queue=8, texts=4, grace_seconds=0.2)) as live:

        def crowd(seconds: float) -> dict[str, int]:
            end = time.monotonic() + seconds
            with ThreadPoolExecutor(16) as pool:
                all_counts = list(pool.map(lambda n: come_and_go(live, n, end), range(16)))
            until(lambda: live.scheduler.n_running + live.scheduler.n_waiting == 0)
            return {kind: sum(c[kind] for c in all_counts) for kind in all_counts[0]}

        crowd(1.0)
        gc.collect()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        counts = crowd(3.0)
        state = live.server.server_state
        until(lambda: len(state.connections) + len(state.tasks) == 0)
        gc.collect()
        kept = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        assert all(counts[kind] > 3 for kind in ("answered", "left", "refused")), counts
        # Each takes a hundred kilobytes; caches may fill, but less than one is left of each.
        assert kept < 1_000 * sum(counts.values()), (kept, counts)
        assert live.scheduler._slots.n_free == 4
        assert live.ask("/v1/completions", {"prompt": "x", "max_tokens": 1}).status == 200
