"""R35, R40: a damaged checkpoint is reported and the one before is used; none is never nothing."""

import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from command import call, send
from endings import assert_same_end, checkpoint, checkpoints, events, rows


def flip(path: Path) -> None:
    """Turns one bit of the file's middle byte around."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "flipped bit in the weights": (
        lambda c: flip(c / "model.safetensors"),
        "model.safetensors does not match its checksum",
    ),
    "flipped bit in the optimiser": (
        lambda c: flip(c / "optimizer.safetensors"),
        "optimizer.safetensors does not match its checksum",
    ),
    "truncated state": (lambda c: truncate(c / "state.json"), "state.json has"),
    "no manifest": (lambda c: (c / "MANIFEST.json").unlink(), "it has no MANIFEST.json"),
    "half a manifest": (lambda c: truncate(c / "MANIFEST.json"), "MANIFEST.json"),
    "missing weights": (
        lambda c: (c / "model.safetensors").unlink(),
        "model.safetensors is missing",
    ),
}


@pytest.fixture
def stopped(at, run, place) -> Path:
    """A run that was stopped at step 13, with checkpoints of 12 and 13 (and no later one)."""
    at("micro_batch", 4 * 13 + 2, send(signal.SIGTERM))
    assert call("train", "recipe.toml", "--run", run).code == 0
    assert checkpoint(run).name == "step-00000013"
    return run


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_one_before_is_used_and_said(stopped, reference, damage):
    hurt, words = DAMAGES[damage]
    hurt(checkpoint(stopped))
    if damage == "half a manifest":  # what is cut off is a newline: cut into the JSON itself
        truncate(checkpoint(stopped) / "MANIFEST.json")
    done = call("resume", stopped)
    assert done.code == 0, done.err
    assert "checkpoint corrupt: step-00000013 was put aside" in done.err
    assert words in done.err
    (event,) = events(stopped, "checkpoint_corrupt")
    assert words in event["message"]
    assert events(stopped, "resumed")[-1]["message"].endswith("step-00000012")
    assert_same_end(stopped, reference)
    assert not [name for name in checkpoints(stopped) if name.endswith(".corrupt")]


def test_all_damaged_is_refused_however_often_one_asks(stopped):
    for name in checkpoints(stopped):
        if name.startswith("step-"):
            flip(stopped / "checkpoints" / name / "model.safetensors")
    before = rows(stopped / "metrics.jsonl")
    for _ in range(2):
        done = call("resume", stopped)
        assert done.code == 2
        assert "None of the 3 checkpoints" in done.err
        assert "step-00000013: model.safetensors does not match its checksum" in done.err
        assert "Traceback" not in done.err
    assert rows(stopped / "metrics.jsonl") == before, "it was trained from scratch"


def test_no_checkpoints_at_all_is_refused(stopped):
    shutil.rmtree(stopped / "checkpoints")
    done = call("resume", stopped)
    assert done.code == 2
    assert "was trained up to step 13, but its checkpoints are gone" in done.err


def test_a_checkpoint_is_not_taken_for_a_run(stopped):
    before = sorted(path.name for path in checkpoint(stopped).iterdir())
    done = call("resume", checkpoint(stopped))
    assert done.code == 2
    assert "is a checkpoint, not a run" in done.err
    assert sorted(path.name for path in checkpoint(stopped).iterdir()) == before


def test_a_kill_before_a_complete_checkpoint_got_its_name(stopped, reference):
    """Written, verified, and not renamed yet: it counts."""
    whole = checkpoint(stopped)
    whole.rename(whole.with_name(whole.name + ".tmp"))
    done = call("resume", stopped)
    assert done.code == 0, done.err
    assert events(stopped, "resumed")[-1]["message"].endswith("step-00000013")
    assert_same_end(stopped, reference)


@pytest.mark.parametrize(
    "file", ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"]
)
def test_a_damaged_checkpoint_is_not_used_to_generate(stopped, file):
    path = stopped / "checkpoints/latest" / file
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    done = call("generate", stopped / "checkpoints/latest", "the")
    assert done.code == 2
    assert f"{file} does not match its checksum" in done.err
