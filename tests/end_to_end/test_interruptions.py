"""SIGTERM and Ctrl-C: the run is saved, ends with exit code 0, and goes on as if nothing had been.

The signals are real; the instant is chosen by what the run is doing, never by the clock.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import instants
import pytest
from command import call, environment, send, start
from endings import assert_same_end, checkpoint, events, rows


def interrupted(run: Path, number: signal.Signals) -> int:
    """Trains until the signal that was arranged comes, and returns the step it was saved at."""
    first = not run.exists()
    done = call("train", "recipe.toml", "--run", run) if first else call("resume", run)
    assert done.code == 0, done.err
    step = json.loads((checkpoint(run) / "state.json").read_text())["step"]
    assert f"stopped and saved at step {step}" in done.out
    assert f"fromscratch resume {run}" in done.out
    assert events(run, "stopped")[-1]["message"].startswith(number.name)
    return int(step)


def finished(run: Path) -> None:
    done = call("resume", run)
    assert done.code == 0, done.err
    assert "finished 24 steps" in done.out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_in_the_middle_of_accumulation(at, run, reference, number):
    at("micro_batch", 4 * 9 + 3, send(number))  # the third of the four of step 10
    assert interrupted(run, number) == 9
    finished(run)
    assert_same_end(run, reference)


@pytest.mark.parametrize("step", [0, 4, 24])
def test_during_an_evaluation(at, run, reference, step, monkeypatch):
    if step == 0:
        at("evaluated", 2, send(signal.SIGTERM))
    else:
        at("row", step, lambda: at("evaluated", 2, send(signal.SIGTERM)))
    assert interrupted(run, signal.SIGTERM) == step
    pending = json.loads((checkpoint(run) / "state.json").read_text())
    assert not pending["duties_done"]
    done_at = {r["step"] for r in rows(run / "metrics.jsonl") if "val_loss" in r}
    assert step not in done_at, "half an evaluation was logged"
    finished(run)
    assert_same_end(run, reference)


def test_during_sampling(at, run, reference):
    at("row", 6, lambda: at("piece", 2, send(signal.SIGINT)))
    assert interrupted(run, signal.SIGINT) == 6
    assert {r["step"] for r in rows(run / "samples.jsonl")} == {0}
    finished(run)
    assert_same_end(run, reference)


def test_again_and_again_at_the_same_duty(place, run, reference, monkeypatch):
    """Interrupted while it catches up on what the interruption before left undone."""
    for _ in range(3):
        with monkeypatch.context() as patch:
            signal_at_row_or_batch(patch, run)
            assert interrupted(run, signal.SIGTERM) == 24
    finished(run)
    assert_same_end(run, reference)
    # What is done is done: nothing is left that another resume would do again.
    before = (run / "metrics.jsonl").read_bytes()
    again = call("resume", run)
    assert again.code == 0
    assert "has done all its 24 steps" in again.out
    assert (run / "metrics.jsonl").read_bytes() == before


def signal_at_row_or_batch(patch: pytest.MonkeyPatch, run: Path) -> None:
    """The last row of a new run; the second batch of what a resumed one has to catch up on."""
    if run.exists():
        instants.at(patch, "evaluated", 2, send(signal.SIGTERM))
    else:
        instants.at(patch, "row", 24, send(signal.SIGTERM))


@pytest.mark.slow
def test_a_real_process_obeys_and_ends_well(place, run, reference):
    for number in (signal.SIGTERM, signal.SIGINT):
        command = ["resume", run] if run.exists() else ["train", "recipe.toml", "--run", run]
        process = start(*command, cwd=place)
        wait_for_more_rows(process, run)
        process.send_signal(number)
        assert process.wait(120) == 0
    if not events(run, "finished"):
        finished(run)
    assert_same_end(run, reference)


def wait_for_more_rows(process: subprocess.Popen[bytes], run: Path) -> None:
    metrics = run / "metrics.jsonl"
    before = metrics.read_text().count('"loss"') if metrics.exists() else 0
    while process.poll() is None:
        if metrics.exists() and metrics.read_text().count('"loss"') >= before + 2:
            return
        time.sleep(0.005)


TWICE = """
import os, signal, sys
from fromscratch.cli.main import main
from fromscratch.runs import objectives

objective, calls = objectives.next_token_loss, []

def loss(*arguments):
    calls.append(1)
    if len(calls) == 30:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)  # which is no reason to wait
        os.kill(os.getpid(), signal.SIGINT)
        print("still here")
    return objective(*arguments)

objectives.next_token_loss = loss
main(["train", "recipe.toml", "--run", sys.argv[1]])
"""


@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once(place, run, reference):
    process = subprocess.run(
        [sys.executable, "-c", TWICE, str(run)],
        cwd=place, env=environment(), capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert process.returncode == 130
    assert "still here" not in process.stdout
    # No checkpoint is made on the way out; that of step 5 may still have been on its own.
    assert checkpoint(run).name in ("step-00000004", "step-00000005")
    finished(run)
    assert_same_end(run, reference)


SLOW_DISK = """
import os, signal, sys, threading, time
from fromscratch.checkpoint.store import CheckpointStore
from fromscratch.cli.main import main

save = CheckpointStore.save

def twice():
    while '"step": 7,' not in open(sys.argv[1] + "/metrics.jsonl").read():
        time.sleep(0.01)  # training goes on
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGINT)

def never_ends(self, step, *arguments, **options):
    if step == 5:
        threading.Thread(target=twice, daemon=True).start()
        time.sleep(1_000_000)
    return save(self, step, *arguments, **options)

CheckpointStore.save = never_ends
main(["train", "recipe.toml", "--run", sys.argv[1]])
"""


@pytest.mark.slow
def test_a_second_ctrl_c_is_heard_while_a_checkpoint_is_waited_for(place, run, reference):
    process = subprocess.run(
        [sys.executable, "-c", SLOW_DISK, str(run)],
        cwd=place, env=environment(), capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert process.returncode == 130, process.stderr
    assert checkpoint(run).name == "step-00000004"
    finished(run)
    assert_same_end(run, reference)


@pytest.mark.slow
def test_a_reader_that_goes_away_ends_no_training(place, run, reference):
    """`fromscratch train ... 2>&1 | head -1`: the run goes on without anybody who reads."""
    reading, writing = os.pipe()
    process = start("train", "recipe.toml", "--run", run, cwd=place, stderr=writing)
    os.close(writing)
    assert os.read(reading, 1)
    os.close(reading)
    process.wait(240)
    assert events(run, "finished")
    assert_same_end(run, reference)
