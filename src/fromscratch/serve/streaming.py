"""Answers that are sent as they are written: server-sent events, as OpenAI streams them.

Each event is a line `data: {...}`; the last is `data: [DONE]`, or an object with `error` where
something went wrong in the middle. While nothing is written for a while (the request waits, or a
long prompt is read) a comment is sent, so that nobody between takes the connection for dead.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from fromscratch.serve.errors import INTERNAL, ApiError
from fromscratch.serve.writing import ClientLeft, while_there

_log = logging.getLogger(__name__)

QUIET_SECONDS = 10.0
"""After which a comment is sent."""
_COMMENT = b": still there\n\n"


class EventStream(Response):
    """A streamed answer.

    Args:
        pieces: JSON texts, several at a time where several are there.
        leave_off: Called when the answer ends, however it does.
    """

    media_type = "text/event-stream"

    def __init__(self, pieces: AsyncIterator[list[str]], *, leave_off: Callable[[], None]) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._pieces, self._leave_off = pieces, leave_off

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends all of it, or as much as the client stays for."""
        try:
            await while_there(self._send_all(send), receive)
        except ClientLeft:
            return
        finally:
            self._leave_off()

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        try:
            async for body in _with_comments(self._pieces):
                await send({"type": "http.response.body", "body": body, "more_body": True})
            last = _event("[DONE]")
        except ApiError as error:
            last = _event(error.body.decode())
        except Exception:
            _log.exception("an answer broke off")
            last = _event(INTERNAL.body.decode())
        await send({"type": "http.response.body", "body": last, "more_body": False})


def _event(data: str) -> bytes:
    return f"data: {data}\n\n".encode()


async def _with_comments(pieces: AsyncIterator[list[str]]) -> AsyncIterator[bytes]:
    following = asyncio.ensure_future(anext(pieces, None))
    try:
        while True:
            done, _ = await asyncio.wait((following,), timeout=QUIET_SECONDS)
            if not done:
                yield _COMMENT
                continue
            found = following.result()
            if found is None:
                return
            following = asyncio.ensure_future(anext(pieces, None))
            yield b"".join(map(_event, found))
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
