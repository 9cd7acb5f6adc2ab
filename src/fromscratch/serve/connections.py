"""Connections that cost nothing when nobody is behind them.

uvicorn's HTTP/1.1 protocol with what it leaves out: a request's head must be here in time (else a
client that sends a byte now and then holds a connection for ever), a client that does not take its
answer is cut off, connections are counted, and what is no HTTP is answered in OpenAI's shape.
"""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from fromscratch.serve.errors import ApiError
from fromscratch.serve.limits import Limits

HEAD_BYTES = 16 * 1024
"""Of a request's head at most."""


class BoundedProtocol(H11Protocol):
    """One connection; `limits` is set by `protocol_with`."""

    limits: Limits

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            self._say_and_close(
                ApiError(503, "Too many connections are open.", code="overloaded", retry_after=1)
            )
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timers()
        super().connection_lost(exc)
        # uvicorn leaves it where the client cut the line: a connection that is gone would be kept
        # in memory for as long as a silent one may live.
        self._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_answering():
            self._stop_head_timer()
        elif not self.transport.is_closing():
            self._await_head()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # What was pipelined behind the request has a head that may be half here.
        if not self.transport.is_closing() and self.conn.trailing_data[0]:
            self._await_head()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall_timer = self.loop.call_later(self.limits.stall_seconds, self._cut)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def send_400_response(self, msg: str) -> None:
        """Instead of uvicorn's plain text."""
        self._say_and_close(ApiError(400, "This is not HTTP/1.1.", code="invalid_http"))

    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _await_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.limits.head_seconds, self._head_is_late)

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._is_answering():
            return
        if not self.conn.trailing_data[0]:  # nothing was ever said; so nobody waits for a word
            self._cut()
        else:
            self._say_and_close(
                ApiError(408, "The request did not arrive in time.", code="timeout")
            )
            # Said or not: a client that does not take it must not hold the connection.
            self._stall_timer = self.loop.call_later(1, self._cut)

    def _cut(self) -> None:
        self.transport.abort()

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_timers(self) -> None:
        self._stop_head_timer()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def _say_and_close(self, error: ApiError) -> None:
        if self.transport.is_closing():
            return
        headers = {
            "content-type": "application/json",
            "content-length": str(len(error.body)),
            "connection": "close",
            **error.headers,
        }
        try:
            for event in (
                h11.Response(status_code=error.status, headers=list(headers.items())),
                h11.Data(data=error.body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:  # an answer has begun, or its connection is broken
            pass
        self.transport.close()


def protocol_with(limits: Limits) -> type[BoundedProtocol]:
    """The protocol with these bounds, as uvicorn wants it: a class."""
    return type("Protocol", (BoundedProtocol,), {"limits": limits})
