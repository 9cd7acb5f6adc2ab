"""A local HTTP server that speaks the OpenAI protocol, reads a judge's questions, makes trouble.

It finds the texts in a question by itself, with no help from the package, and scores each by what
stands in it. Trouble is ordered for the next requests, one for each.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-secret-3141592653"


@dataclass
class Trouble:
    """What happens instead of a reply with scores."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None  # the whole body
    content: str | None = None  # what the judge writes
    drop: bool = False  # the connection breaks in the middle of the body
    until: threading.Event | None = None  # no reply before
    then: Callable[[], None] | None = None  # done before the reply


def error(status: int, message: str = "no", code: str | None = None, **headers: str) -> Trouble:
    body = json.dumps({"error": {"message": message, "code": code, "param": None}}).encode()
    return Trouble(status, headers, body)


@dataclass
class Asked:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at: float

    @property
    def prompt(self) -> str:
        (message,) = self.body["messages"]
        return message["content"]


def blocks(prompt: str) -> list[tuple[str, str]]:
    """The fenced texts of a question, as its first lines describe them."""
    (mark,) = set(re.findall(r"two lines that begin with (\S+)\.", prompt))
    found = []
    lines = prompt.split("\n")
    while lines:
        line = lines.pop(0)
        if line.startswith(f"{mark} begin "):
            name, text = line.removeprefix(f"{mark} begin "), []
            while not lines[0].startswith(mark):
                text.append(lines.pop(0))
            assert lines.pop(0) == f"{mark} end {name}"
            found.append((name, "\n".join(text)))
    return found


def answers_in(prompt: str) -> dict[str, str]:
    return {n: t for n, t in blocks(prompt) if n == "reference" or n.startswith("answer_")}


class JudgeServer:
    """Listens while it is entered."""

    def __init__(self, score: Callable[[str], float] = len) -> None:
        self.asked: list[Asked] = []
        self.troubles: list[Trouble] = []
        self.score = score
        self.models: list[str] | None = ["strict-judge", "other"]
        self.usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    @property
    def prompts(self) -> list[str]:
        return [asked.prompt for asked in self.asked]

    def __enter__(self) -> JudgeServer:
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def next_trouble(self) -> Trouble:
        with self._lock:
            return self.troubles.pop(0) if self.troubles else Trouble()

    def completion(self, asked: Asked, content: str | None) -> bytes:
        if content is None:
            scores = {label: self.score(text) for label, text in answers_in(asked.prompt).items()}
            content = json.dumps(scores)
        message = {"role": "assistant", "content": content}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        whole = {"id": "c", "object": "chat.completion", "created": 1, "model": "strict-judge"}
        return json.dumps(whole | {"choices": [choice], "usage": self.usage}).encode()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                assert self.path == "/v1/models"
                if server.models is None:
                    self.answer(404, b"{}")
                    return
                listed = [{"id": m, "object": "model", "created": 1, "owned_by": "x"}
                          for m in server.models]  # fmt: skip
                self.answer(200, json.dumps({"object": "list", "data": listed}).encode())

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(self.path, headers, body, time.monotonic())
                server.asked.append(asked)
                trouble = server.next_trouble()
                if trouble.then is not None:
                    trouble.then()
                if trouble.until is not None:
                    trouble.until.wait(30)
                content = trouble.body
                if content is None:
                    content = server.completion(asked, trouble.content)
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self.answer(trouble.status, content, trouble.headers, drop=trouble.drop)

            def answer(
                self,
                status: int,
                content: bytes,
                headers: dict[str, str] | None = None,
                drop: bool = False,
            ) -> None:
                headers = {"Content-Type": "application/json"} | (headers or {})
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2] if drop else content)
                self.wfile.flush()
                if drop:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)

        return Handler
