"""What a person sees, and that nobody's closed terminal ends a training."""

import io

import pytest
from rich.console import Console

from fromscratch.track.console import ConsoleTracker
from fromscratch.track.tracker import HellaSwagResult, SampleResult, StepResult, ValidationResult


def steps(tracker: ConsoleTracker) -> None:
    tracker.step(StepResult(1, 8, 2.5, 1e-3, 0.5, False, 100.0, 0.1, 0.2, {"a": 0.25}))
    tracker.validation(ValidationResult(1, 8, "validation", 2.25, 9.5, 1.8, 0.2, 0.1, 64))
    tracker.validation(ValidationResult(1, 8, "poems", 2.0, 7.4, 1.5, 0.2, 0.1, 64))
    tracker.hellaswag(HellaSwagResult(1, 8, 0.2859, 0.2955, 10_042, "completion", 0.2, 0.1))
    tracker.sample(SampleResult(1, "the ", "text [bold] of\nthe model", 0))
    tracker.event("checkpoint", 1, "step-00000001", {})
    tracker.event("checkpoint_corrupt", 1, "step-2 [x] was put aside", {})


def test_in_a_pipe_validations_and_troubles_are_plain_lines():
    file = io.StringIO()
    tracker = ConsoleTracker(Console(file=file, width=120), steps=2)
    steps(tracker)
    tracker.close()
    lines = file.getvalue().splitlines()
    assert len(lines) == 4
    assert "val loss 2.250" in lines[0]
    assert "1.800 bits/byte" in lines[0]
    assert lines[1].endswith("(poems)")
    assert lines[2] == "step      1  HellaSwag acc_norm 0.2955  acc 0.2859  of 10,042 items"
    assert lines[3] == "step      1  checkpoint corrupt: step-2 [x] was put aside"


def test_on_a_terminal_there_is_a_live_line_and_the_samples():
    file = io.StringIO()
    tracker = ConsoleTracker(
        Console(file=file, force_terminal=True, width=120, highlight=False), steps=2
    )
    steps(tracker)
    tracker.close()
    assert "the " in file.getvalue()
    assert "text [bold] of the model" in file.getvalue()
    assert "1/2" in file.getvalue()


@pytest.mark.parametrize("error", [BrokenPipeError, OSError])
@pytest.mark.parametrize("terminal", [False, True])
def test_a_reader_that_has_gone_is_not_missed(monkeypatch, error, terminal):
    class Gone(io.StringIO):
        broken = False

        def write(self, text: str) -> int:
            if self.broken:
                raise error(5, "gone")
            return super().write(text)

    file = Gone()
    # Rich answers a broken pipe by pointing the process's own standard output elsewhere.
    monkeypatch.setattr("os.dup2", lambda *_: None)
    tracker = ConsoleTracker(Console(file=file, force_terminal=terminal, width=120), steps=2)
    file.broken = True
    steps(tracker)
    steps(tracker)
    tracker.close()
