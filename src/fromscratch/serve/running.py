"""The server as a process: its socket, its signals, its end.

In: an application. Out: it is served until somebody ends it. What always holds: at a stop (Ctrl-C,
or a service manager's SIGTERM) no new requests are taken, what has begun may finish within the
grace period, the rest is told so; a second one ends at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn

from fromscratch.foundation.errors import UserError
from fromscratch.serve.app import Served
from fromscratch.serve.connections import HEAD_BYTES, protocol_with
from fromscratch.serve.guarding import is_loopback
from fromscratch.serve.limits import Limits

PORT = 8000
"""Taken where the user names none; if it is in use, another free one."""
LOOPBACK = "127.0.0.1"


def check_access(host: str, token: str | None) -> None:
    """Refuses to be open to others without a token.

    Raises:
        UserError: It would be, or the token is none.
    """
    if token is not None and (not token.strip() or not token.isascii() or not token.isprintable()):
        raise UserError(
            "The API token is empty, or has characters that no HTTP header can carry.",
            fix="Take one of plain letters and digits: openssl rand -hex 24",
        )
    if token is None and not is_loopback(host):
        raise UserError(
            f"Beyond this machine (--host {host}) anybody could use the model.",
            fix="Give a token that requests must carry: --api-token, or FROMSCRATCH_API_TOKEN in "
            "the environment. Or leave --host out, and reach it with ssh -L.",
        )


def open_socket(host: str, port: int | None) -> socket.socket:
    """A socket to serve on, not listening yet; before a model is loaded, so that trouble is early.

    Args:
        host: An address of this machine, or a name of one.
        port: 0 for any free one, None for `PORT` or any free one.

    Raises:
        UserError: It cannot be had.
    """
    trouble: Exception | None = None
    for choice in (PORT, 0) if port is None else (port,):
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                host, choice, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            opened = socket.socket(family, kind, protocol)
        except OSError as error:
            trouble = error
            continue
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            opened.bind(address)
            opened.listen(0)  # so that two servers cannot both believe that they have the port
            return opened
        except OSError as error:
            opened.close()
            trouble = error
    place = host if port is None else f"{host}, port {port}"
    raise UserError(
        f"{place} cannot be listened on ({getattr(trouble, 'strerror', None) or trouble}).",
        fix="Name another with --host and --port.",
    )


def address_of(opened: socket.socket) -> str:
    """The URL of what is served there; one that a browser on this machine can open."""
    host, port = opened.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = LOOPBACK
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """uvicorn's server, which ends as this project's programs do."""

    def __init__(
        self, served: Served, limits: Limits, *, on_stop: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(
            uvicorn.Config(
                served.app,
                http=protocol_with(limits),
                ws="none",
                lifespan="on",
                loop="asyncio",
                log_level="error",
                access_log=False,
                server_header=False,
                timeout_keep_alive=int(limits.idle_seconds),
                h11_max_incomplete_event_size=HEAD_BYTES,
                # The scheduler ends what is under way; this is for what it cannot end.
                timeout_graceful_shutdown=int(limits.grace_seconds) + 5,
                backlog=limits.connections,
            )
        )
        self._scheduler = served.scheduler
        self._on_stop = on_stop

    def stop(self) -> None:
        """As the first Ctrl-C; from any thread."""
        self._scheduler.drain()
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends the model's thread also where uvicorn, in a hurry, leaves that out."""
        await super().shutdown(sockets)
        if self.force_exit:
            await self.lifespan.shutdown()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first time: ends in order; the second time: at once."""
        if self.should_exit:
            self.force_exit = True
            # It would report each request that is dropped now as an error, with a traceback.
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            return
        self._on_stop()
        self.stop()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Uvicorn would raise the signal again when all has ended in order; it has been obeyed."""
        if threading.current_thread() is not threading.main_thread():
            yield  # signals are the main thread's
            return
        before = {
            sig: signal.signal(sig, self.handle_exit) for sig in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for sig, handler in before.items():
                signal.signal(sig, handler)


def run(server: Server, opened: socket.socket) -> None:
    """Serves until somebody ends it."""
    asyncio.run(server.serve(sockets=[opened]))
