"""What one client may take from the others: every bound of the server, in one place."""

from __future__ import annotations

from dataclasses import dataclass

from fromscratch.foundation.errors import UserError


@dataclass(frozen=True)
class Limits:
    """The server's bounds.

    Attributes:
        parallel: Texts that are written at the same time.
        queue: Texts that may wait for their turn; what comes on top is told to come again.
        texts: Texts of one request: its prompts times its `n`.
        new_tokens: Tokens that one text may be long; None for what the context leaves.
        seconds: A text's time, from its request on; it ends with what it has by then.
        body_bytes: Of a request.
        body_seconds: A request's body is here by then.
        head_seconds: A request's head is here by then, counted from the first byte or connection.
        stall_seconds: A client that takes nothing for so long is cut off.
        idle_seconds: A connection without a request is kept for so long.
        connections: At the same time; more are turned away at once.
        grace_seconds: What has begun may go on for so long when the server is told to end.
    """

    parallel: int = 8
    queue: int = 64
    texts: int = 16
    new_tokens: int | None = None
    seconds: float = 300.0
    body_bytes: int = 1_000_000
    body_seconds: float = 20.0
    head_seconds: float = 10.0
    stall_seconds: float = 30.0
    idle_seconds: float = 30.0
    connections: int = 256
    grace_seconds: float = 10.0

    def __post_init__(self) -> None:
        for name in ("parallel", "queue", "texts", "body_bytes", "connections"):
            if getattr(self, name) < 1:
                raise UserError(f"A server with {name} = {getattr(self, name)} answers nobody.")
        if self.seconds <= 0 or self.grace_seconds < 0:
            raise UserError("A text needs time: more than 0 seconds.")
        if self.texts > self.queue:
            raise UserError(
                f"A request of {self.texts} texts would never fit into a queue of {self.queue}.",
                fix="Let more wait (--queue), or allow fewer in a request (--max-texts).",
            )
