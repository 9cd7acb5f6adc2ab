"""Instants of a run at which a test does something to it, chosen by what the run is doing."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from fromscratch.runs import objectives, session


def at(patch: pytest.MonkeyPatch, what: str, number: int, action: Callable[[], None]) -> None:
    """Does something at the n-th `micro_batch`, `evaluated` batch, sampled `piece` or logged `row`.

    The real thing goes on around it: only the instant is chosen, so that no test waits for one.
    """
    seen = 0

    def count() -> None:
        nonlocal seen
        seen += 1
        if seen == number:
            action()

    if what == "micro_batch":
        objective = objectives.next_token_loss

        def loss(*a: Any) -> Any:
            count()
            return objective(*a)

        patch.setattr(objectives, "next_token_loss", loss)
    elif what == "evaluated":
        evaluate = session.evaluate_loss

        def evaluate_loss(*a: Any, should_stop: Callable[[], bool], **k: Any) -> Any:
            def asked() -> bool:
                count()
                return should_stop()

            return evaluate(*a, should_stop=asked, **k)

        patch.setattr(session, "evaluate_loss", evaluate_loss)
    elif what == "piece":
        write = session.continue_text

        def continue_text(*a: Any, **k: Any) -> Iterator[str]:
            for piece in write(*a, **k):
                count()
                yield piece

        patch.setattr(session, "continue_text", continue_text)
    else:
        assert what == "row"

        class Logged(session.JsonlTracker):
            def step(self, result: Any) -> None:
                super().step(result)
                count()

        patch.setattr(session, "JsonlTracker", Logged)
