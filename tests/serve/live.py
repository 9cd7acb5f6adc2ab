"""A server in this process: its address, and what is behind it."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openai import OpenAI

from fromscratch.checkpoint.bundle import ModelBundle, load_bundle
from fromscratch.serve.app import Access, make_app
from fromscratch.serve.limits import Limits
from fromscratch.serve.running import Server, open_socket
from fromscratch.serve.scheduler import Scheduler

FOREVER = {"256": -100}
"""Bias that forbids end-of-text of the byte tokenizer."""


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """Of OpenAI's schema, exactly."""
        assert self.headers["content-type"] == "application/json"
        assert set(self.json) == {"error"}
        assert set(self.json["error"]) == {"message", "type", "param", "code"}
        assert self.json["error"]["message"].endswith((".", ")"))
        return dict(self.json["error"])


@dataclass
class Live:
    """A running server."""

    port: int
    server: Server
    scheduler: Scheduler
    bundle: ModelBundle

    def ask(
        self, path: str, body: Any = None, *, method: str | None = None, **headers: str
    ) -> Answer:
        """One request; `_` in a header's name is `-`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        sent = {"content-type": "application/json"} if data is not None else {}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method or ("GET" if body is None else "POST"), path, data, sent)
        found = connection.getresponse()
        answer = Answer(found.status, {k.lower(): v for k, v in found.getheaders()}, found.read())
        connection.close()
        return answer

    def client(self, token: str = "none", **options: Any) -> OpenAI:
        """OpenAI's own."""
        return OpenAI(
            base_url=f"http://127.0.0.1:{self.port}/v1", api_key=token, max_retries=0, **options
        )

    def socket(self) -> socket.socket:
        """A connection that says nothing by itself."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def raw(self, body: Any, path: str = "/v1/completions") -> socket.socket:
        """A connection that has sent a request, and has read nothing."""
        data = json.dumps(body).encode()
        connection = self.socket()
        connection.sendall(
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(data)}\r\n\r\n".encode()
            + data
        )
        return connection

    def number(self, name: str, **headers: str) -> float:
        """One of the server's metrics."""
        text = self.ask("/metrics", **headers).body.decode()
        (found,) = re.findall(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
        return float(found)


@contextmanager
def serving(
    model: Path | ModelBundle, *, limits: Limits | None = None, access: Access | None = None
) -> Iterator[Live]:
    """A server until the end of the block."""
    bundle = load_bundle(model) if isinstance(model, Path) else model
    limits = limits or Limits(grace_seconds=0.5)
    opened = open_socket("127.0.0.1", 0)
    served = make_app(bundle, "parrot", limits=limits, access=access or Access())
    server = Server(served, limits)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[opened])))
    thread.start()
    try:
        until(lambda: server.started)
        yield Live(opened.getsockname()[1], server, served.scheduler, bundle)
    finally:
        server.stop()
        thread.join(timeout=20)
        assert not thread.is_alive(), "the server does not end"


def until(is_so: Callable[[], bool], seconds: float = 15.0) -> None:
    """Waits for something that must come true."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.005)
