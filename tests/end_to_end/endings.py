"""What two runs must have in common when one of them was never interrupted: everything but time."""

import json
from pathlib import Path
from typing import Any

CLOCKS = {"tokens_per_s", "mfu", "seconds", "eval_seconds", "memory_gb"}
"""Keys of a row that tell the time, which no two runs share."""


def lines(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file, every line of which must be whole."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def rows(path: Path) -> list[dict[str, Any]]:
    """The rows without their clocks, in the order of the file."""
    return [{k: v for k, v in row.items() if k not in CLOCKS} for row in lines(path)]


def events(run: Path, name: str) -> list[dict[str, Any]]:
    """A run's events of one kind."""
    return [row for row in lines(run / "events.jsonl") if row["event"] == name]


def checkpoint(run: Path, name: str = "latest") -> Path:
    """What a pointer leads to."""
    return (run / "checkpoints" / name).resolve(strict=True)


def checkpoints(run: Path) -> list[str]:
    """The names of everything that lies among the checkpoints."""
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def assert_same_end(run: Path, reference: Path) -> None:
    """Rows, samples, and all of the final and the best checkpoint are the reference's."""
    steps = [row["step"] for row in rows(run / "metrics.jsonl") if "loss" in row]
    assert steps == list(range(1, len(steps) + 1)), "a step is missing, or is there twice"
    assert rows(run / "metrics.jsonl") == rows(reference / "metrics.jsonl")
    assert rows(run / "samples.jsonl") == rows(reference / "samples.jsonl")
    pointers = {"latest", "best"}
    assert pointers & set(checkpoints(run)) == pointers & set(checkpoints(reference))
    for name in pointers & set(checkpoints(run)):
        ours, theirs = checkpoint(run, name), checkpoint(reference, name)
        assert ours.name == theirs.name
        for file in ("model.safetensors", "optimizer.safetensors"):
            assert (ours / file).read_bytes() == (theirs / file).read_bytes(), (name, file)
        assert _state(ours) == _state(theirs)


def _state(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "state.json").read_text("utf-8"))
    del content["seconds"]
    return content
