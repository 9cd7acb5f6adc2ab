"""What a person sees while a model trains.

On a terminal: a live line with step, loss, validation, rate and time left, and above it every
validation and sample as they come. Elsewhere (a pipe, CI): one plain line for each validation and
event, and nothing in between.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from fromscratch.track.tracker import (
    HealthResult,
    HellaSwagResult,
    SampleResult,
    StepResult,
    ValidationResult,
)

_QUIET_EVENTS = {"started", "finished", "checkpoint"}
_SMOOTHING = 0.95


class ConsoleTracker:
    """Prints a run.

    Args:
        console: Where to.
        steps: Updates in the whole run, for the bar.
    """

    def __init__(self, console: Console, *, steps: int) -> None:
        self._console = console
        self._loss: float | None = None
        self._validation = ""
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        if console.is_terminal:
            self._progress = Progress(
                TextColumn("[bold]step"),
                MofNCompleteColumn(),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[status]}"),
                TimeRemainingColumn(elapsed_when_finished=True),
                console=console,
            )
            self._task = self._progress.add_task(
                "train", total=steps, status="before the first step"
            )
            self._progress.start()

    def step(self, result: StepResult) -> None:
        """Moves the bar; the loss shown is smoothed over some twenty steps."""
        if self._loss is None:
            self._loss = result.loss
        self._loss = _SMOOTHING * self._loss + (1 - _SMOOTHING) * result.loss
        if self._progress is not None and self._task is not None:
            status = f"loss {self._loss:.3f}{self._validation}  {result.tokens_per_s:,.0f} tokens/s"
            self._progress.update(self._task, completed=result.step, status=status)

    def validation(self, result: ValidationResult) -> None:
        """Prints a validation."""
        found = f"{result.val_bpb:.3f} bits/byte"
        if "accuracy" in result.measures:  # of preferences: that of the answers says less
            pairs = result.measures
            found = f"{pairs['accuracy']:.1%} of pairs right, margin {pairs['margin']:.3f}"
        self._validation = f"  val {result.val_loss:.3f} = {found}"
        train = f"train loss {self._loss:.3f}  " if self._loss is not None else ""
        name = "" if result.set == "validation" else f" ({result.set})"
        self._print(
            f"step {result.step:>6,}  {train}val loss {result.val_loss:.3f}  "
            f"[bold]{found}[/]{escape(name)}"
        )

    def hellaswag(self, result: HellaSwagResult) -> None:
        """Prints how many of HellaSwag's questions were answered rightly."""
        self._print(
            f"step {result.step:>6,}  HellaSwag acc_norm [bold]{result.hellaswag_acc_norm:.4f}[/]  "
            f"acc {result.hellaswag_acc:.4f}  of {result.hellaswag_n:,} items"
        )

    def sample(self, result: SampleResult) -> None:
        """Prints a sample, on a terminal."""
        if self._console.is_terminal:
            text = " ".join(result.text.split("\n"))[:160]
            prompt = result.prompt.replace("\n", " ")
            self._print(
                f"             [dim]{escape(prompt)}[/][italic]{escape(text)}[/]", soft_wrap=False
            )

    def health(self, result: HealthResult) -> None:
        """Nothing that a line has room for; what it means is said by events."""

    def rewind(self, step: int, *, duties_done: bool) -> None:
        """The next step moves the bar back."""
        self._loss = None

    def event(self, name: str, step: int, message: str, details: dict[str, Any]) -> None:
        """Prints what is out of the ordinary."""
        if name not in _QUIET_EVENTS:
            words = name.replace("_", " ")
            self._print(f"step {step:>6,}  [yellow]{words}[/]: {escape(message)}")

    def flush(self) -> None:
        """Nothing here is kept."""

    def close(self) -> None:
        """Ends the live line."""
        if self._progress is not None:
            with suppress(OSError, SystemExit):
                self._progress.stop()

    def _print(self, text: str, soft_wrap: bool | None = None) -> None:
        """Prints a line; a reader that has gone (`| head`, a closed terminal) ends no training."""
        try:
            self._console.print(text, soft_wrap=soft_wrap)
        except (OSError, SystemExit):  # rich answers a broken pipe with SystemExit
            self._console.quiet = True
