"""A run on a folder like Google Drive's: mounted, without links, uploaded late and not in order."""

import errno
import os
import signal
import stat
from pathlib import Path

import pytest
from command import call, send
from endings import checkpoint, events, rows

from fromscratch.checkpoint.store import CheckpointStore


@pytest.fixture
def drive(monkeypatch):
    """Folders cannot be forced there, and there are no links."""
    force = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        force(descriptor)

    def refuse(*_, **__):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "symlink_to", refuse)


def test_what_was_not_uploaded_costs_the_steps_since_the_checkpoint_before(
    at, run, reference, drive
):
    command = ("train", "recipe.toml", "--run", run, "--or-resume")
    at("micro_batch", 4 * 13 + 1, send(signal.SIGTERM))
    first = call(*command)
    assert first.code == 0, first.err
    assert (run / "checkpoints" / "latest").is_file()
    # The session ends while the newest checkpoint is on its way, and the rows are older still.
    newest = CheckpointStore(run / "checkpoints").pointer("latest")
    weights = newest / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    metrics = run / "metrics.jsonl"
    metrics.write_bytes(b"".join(metrics.read_bytes().splitlines(keepends=True)[:6])[:-20])
    second = call(*command)
    assert second.code == 0, second.err
    assert "from step 12 of 24" in second.out
    assert "put aside" in events(run, "checkpoint_corrupt")[0]["message"]
    assert "finished 24 steps" in second.out
    # The rows that were lost are lost; from the checkpoint on all are there, and the same.
    expected = [row["loss"] for row in rows(reference / "metrics.jsonl") if "loss" in row]
    found = {row["step"]: row["loss"] for row in rows(metrics) if "loss" in row}
    assert [found[step] for step in range(13, 25)] == expected[12:]
    for name in ("model.safetensors", "optimizer.safetensors"):
        ours = CheckpointStore(run / "checkpoints").pointer("latest") / name
        theirs = checkpoint(reference) / name
        assert ours.read_bytes() == theirs.read_bytes()
    assert call("report", run).code == 0
