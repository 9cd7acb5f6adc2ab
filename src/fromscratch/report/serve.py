"""The report of runs that are still going on, served on this machine, from their files alone.

In: run folders. Out: a page that updates itself. What always holds: it listens on the loopback
address only, answers GET of its own two addresses and nothing else, and no other site's page can
read it: a request that names another host is refused, which is what a site does that points its own
name here (DNS rebinding). Training neither knows nor waits.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from fromscratch.foundation.errors import UserError
from fromscratch.foundation.names import RunPaths
from fromscratch.report.build import Rates, page
from fromscratch.report.read import RunReader

LOOPBACK = "127.0.0.1"
PORT = 8777
"""Taken where the user names none; if it is in use, another free one."""

_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}
# A client that says nothing, or is slow to read, must not keep a thread for ever.
_PATIENCE = 30


class LivePage:
    """The page of some runs, made anew when their files have changed and somebody asks.

    Args:
        runs: The folders.
        rates: For cost and energy.

    Raises:
        UserError: One of them is no folder.
    """

    def __init__(self, runs: Sequence[Path], *, rates: Rates | None = None) -> None:
        self._readers = [RunReader(run) for run in runs]
        self._rates = rates
        self._lock = threading.Lock()
        self._version, self._page = "", ""

    def version(self) -> str:
        """Of the files as they are: another one as soon as any has changed. Reads none of them."""
        state = [
            (str(path), *_stamp(path)) for reader in self._readers for path in _files(reader.folder)
        ]
        return hashlib.sha256(repr(state).encode("utf-8", "replace")).hexdigest()[:16]

    def html(self) -> str:
        """The page; from memory while nothing has changed."""
        with self._lock:
            # Before reading: what is written meanwhile is then news to the next who asks.
            version = self.version()
            if version != self._version:
                records = [(reader.folder, reader.read()) for reader in self._readers]
                self._page = page(records, rates=self._rates, version=version)
                self._version = version
            return self._page


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Two watchers must not share a port and see each other's runs.
    allow_reuse_port = False

    def __init__(self, port: int, live: LivePage) -> None:
        self.live = live
        super().__init__((LOOPBACK, port), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing of a browser that went away; anything else is our mistake."""
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _PATIENCE
    protocol_version = "HTTP/1.1"
    server_version = "fromscratch"
    sys_version = ""

    def do_GET(self) -> None:
        if not self._is_for_us():
            self._answer(HTTPStatus.FORBIDDEN, "text/plain", "This is not the host you asked for.")
            return
        known: dict[str, tuple[str, Callable[[], str]]] = {
            "/": ("text/html", self.server.live.html),
            "/version": (
                "application/json",
                lambda: json.dumps({"version": self.server.live.version()}),
            ),
        }
        found = known.get(self.path.partition("?")[0])
        if found is None:
            self._answer(HTTPStatus.NOT_FOUND, "text/plain", "There is nothing here.")
            return
        kind, content = found
        self._answer(HTTPStatus.OK, kind, content())

    def do_HEAD(self) -> None:
        self.do_GET()

    def _is_for_us(self) -> bool:
        port = self.server.server_address[1]
        hosts = self.headers.get_all("Host") or []
        return len(hosts) == 1 and hosts[0] in (f"{LOOPBACK}:{port}", f"localhost:{port}")

    def _answer(self, status: HTTPStatus, kind: str, content: str) -> None:
        body = content.encode("utf-8", "replace")
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Silence: the terminal is for the person, not for each request."""


def open_server(
    runs: Sequence[Path], *, port: int | None = None, rates: Rates | None = None
) -> tuple[ThreadingHTTPServer, str]:
    """A server that is ready to `serve_forever`, and the address of its page.

    Args:
        runs: The folders.
        port: To listen on; 0 for any free one, None for `PORT` or any free one.
        rates: For cost and energy.

    Raises:
        UserError: A run is no folder, or the port is taken.
    """
    live = LivePage(runs, rates=rates)
    server = None
    for choice in (PORT, 0) if port is None else (port,):
        try:
            server = _Server(choice, live)
            break
        except (OSError, OverflowError) as error:
            trouble = error
    if server is None:
        raise UserError(
            f"Port {port} cannot be listened on ({getattr(trouble, 'strerror', trouble)}).",
            fix="Name another with --port, or leave it out to take a free one.",
        )
    return server, f"http://{LOOPBACK}:{server.server_address[1]}/"


def _files(run: Path) -> tuple[Path, ...]:
    paths = RunPaths(run)
    return (
        paths.recipe, paths.metrics, paths.samples, paths.events, paths.health, paths.evals,
        paths.imported, paths.landscape,
    )  # fmt: skip


def _stamp(path: Path) -> tuple[int, ...]:
    """What changes when a file does; empty if there is none."""
    try:
        status = path.stat()
    except OSError:
        return ()
    return status.st_ino, status.st_size, status.st_mtime_ns
