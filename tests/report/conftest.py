"""Run folders made for the tests, in the formats that training writes."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from fromscratch.foundation.files import dump_json

RECIPE = """\
name = "try"  # what `fromscratch try` trains

[model]
family = "modern"
n_layer = 4
d_model = 192
context = 128

[optim]
name = "muon"
lr = 0.003
clip = 1.0

[train]
steps = {steps}
"""

PROMPTS = ("def main(", "The list type has ")
WORDS = ["self", "return", "import", "the", "value", "of", "a", "list", "is", "None", "for", "x"]


def json_lines(rows: Iterable[dict[str, Any]]) -> str:
    """Rows as training writes them."""
    return "".join(dump_json(row) + "\n" for row in rows)


def loss_at(step: int, steps: int) -> float:
    """A curve like those of real runs: a power law, steeper while the rate decays."""
    decay = max(0.0, (step - 0.7 * steps) / (0.3 * steps))
    return 2.35 + 5.3 * (1 + 300 * step / steps) ** -0.42 - 0.22 * decay


def metric_rows(steps: int, *, every: int, noise: float = 0.06) -> list[dict[str, Any]]:
    """Training rows for each step and validation rows for every so many, seeded."""
    draw = random.Random(17)
    rows: list[dict[str, Any]] = []
    for step in range(steps + 1):
        seconds, tokens = step * 120.0 / max(1, steps), step * 1536
        if step:
            norm = 0.35 * math.exp(draw.gauss(0, 0.35)) + 3 * math.exp(-40 * step / steps)
            warm, cool = min(1.0, 20 * step / steps), min(1.0, 3.3 * (1 - step / (steps + 1)))
            rows.append(
                {
                    "step": step,
                    "tokens": tokens,
                    "loss": loss_at(step, steps) + draw.gauss(0, noise),
                    "lr": 0.003 * min(warm, cool),
                    "grad_norm": norm,
                    "clipped": norm > 1.0,
                    "tokens_per_s": 12_700 + draw.gauss(0, 350),
                    "mfu": 0.31,
                    "seconds": seconds,
                }
            )
        if step % every == 0 or step == steps:
            loss = loss_at(step, max(1, steps)) + 0.03
            rows.append(
                {
                    "step": step,
                    "tokens": tokens,
                    "set": "validation",
                    "val_loss": loss,
                    "val_ppl": math.exp(loss),
                    "val_bpb": loss * 0.655,
                    "seconds": seconds,
                }
            )
    return rows


def sample_rows(steps: int, *, every: int) -> list[dict[str, Any]]:
    """Samples of each prompt, a little less random at each step."""
    draw = random.Random(5)
    return [
        {
            "step": step,
            "prompt": prompt,
            "seed": 1,
            "text": " ".join(draw.choice(WORDS[: 4 + 8 * step // steps]) for _ in range(40)),
        }
        for step in range(0, steps + 1, every)
        for prompt in PROMPTS
    ]


def event_rows(steps: int, *, end: str = "finished") -> list[dict[str, Any]]:
    """The life of a run with one interruption."""
    versions = {"python": "3.11.7", "torch": "2.10.0", "fromscratch": "0.1.0"}
    data = {
        "train_tokens": 7_340_113,
        "val_tokens": 151_000,
        "val_bytes": 461_312,
        "documents": 753,
    }
    middle = steps // 2
    yardsticks = [
        {"name": "uniform bytes", "bpb": 8.0},
        {"name": "unigram", "bpb": 4.713},
        {"name": "gzip -9", "bpb": 2.165},
        {"name": "xz -9", "bpb": 1.944},
        {"name": "this model, at the start", "bpb": 5.01},
        {"name": "this model, now", "bpb": 1.607},
    ]
    return [
        {
            "time": "2026-02-03T10:00:00.123456+00:00",
            "event": "started",
            "step": 0,
            "parameters": {"total": 2_624_448, "decayed": 2_621_440},
            "device": "cpu (2 cores)",
            "peak": {"flops": 1.8e11, "from": "a timed matrix product"},
            "versions": versions,
            "data": data,
            "resolved": {"steps": steps, "micro_batch": 12, "precision": "fp32"},
        },
        {"time": "2026-02-03T10:00:40+00:00", "event": "checkpoint", "step": middle},
        {
            "time": "2026-02-03T10:00:50+00:00",
            "event": "skipped_step",
            "step": middle,
            "message": "the gradient norm was not finite; the update was left out",
        },
        {"time": "2026-02-03T10:01:00+00:00", "event": "stopped", "step": middle},
        {
            "time": "2026-02-03T10:05:00+00:00",
            "event": "checkpoint_corrupt",
            "step": middle,
            "message": "step-00000500: model.safetensors does not match its sha256",
        },
        {"time": "2026-02-03T10:05:01+00:00", "event": "resumed", "step": middle},
        {"time": "2026-02-03T10:06:30+00:00", "event": "checkpoint", "step": steps},
        {"time": "2026-02-03T10:06:31+00:00", "event": end, "step": steps},
        {"time": "2026-02-03T10:06:40+00:00", "event": "yardsticks", "rows": yardsticks},
    ]


RunMaker = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> RunMaker:
    """Writes a run folder; a keyword replaces the content of the file of that name."""

    def make(steps: int = 300, *, every: int = 25, name: str = "try-1", **content: Any) -> Path:
        run = tmp_path / name
        run.mkdir()
        files: dict[str, Any] = {
            "recipe": RECIPE.format(steps=steps),
            "metrics": metric_rows(steps, every=every),
            "samples": sample_rows(steps, every=every),
            "events": event_rows(steps),
        }
        suffix = {"recipe": "toml"}
        for stem, value in {**files, **content}.items():
            if value is None:
                continue
            path = run / f"{stem}.{suffix.get(stem, 'jsonl')}"
            if isinstance(value, bytes):
                path.write_bytes(value)
            else:
                path.write_text(value if isinstance(value, str) else json_lines(value))
        return run

    return make
