"""The real command: it starts, it ends when it is told to, and those it was answering are told."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.serve.live import until

pytestmark = pytest.mark.slow
LONG = {"prompt": "x", "max_tokens": 200, "logit_bias": {str(i): -100 for i in range(256, 261)}}


def started(folder: Path, *options: str) -> tuple[subprocess.Popen[str], int]:
    """The command, and its port."""
    program = subprocess.Popen(
        [sys.executable, "-m", "fromscratch", "serve", str(folder), "--port", "0", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"NO_COLOR": "1"},
    )  # fmt: skip
    assert program.stdout is not None
    first = program.stdout.readline()
    found = re.search(r"serving parrot on http://127\.0\.0\.1:(\d+)$", first.strip())
    assert found, first
    port = int(found[1])

    def answers() -> bool:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except OSError:
            return False

    until(answers, 60)
    return program, port


def ended(program: subprocess.Popen[str]) -> str:
    """Its last words; it has ended well and said nothing else."""
    out, err = program.communicate(timeout=60)
    assert program.returncode == 0, err
    assert err == ""
    assert out.endswith("not serving any more\n")
    return out


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_what_has_begun_is_finished(parrot_folder: Path, sign: signal.Signals) -> None:
    program, port = started(parrot_folder)
    idle = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    idle.request("GET", "/v1/models")
    assert json.loads(idle.getresponse().read())["data"][0]["id"] == "parrot"
    stream = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    headers = {"content-type": "application/json"}
    stream.request("POST", "/v1/completions", json.dumps(LONG | {"stream": True}), headers)
    answer = stream.getresponse()
    first = answer.read(10)
    program.send_signal(sign)
    rest = first + answer.read()
    assert rest.endswith(b"data: [DONE]\n\n")
    assert b'"ended_by":"max_tokens"' in rest
    assert "Ctrl-C ends it at once" in ended(program)


def test_what_takes_too_long_is_told_and_left(tmp_path: Path) -> None:
    """In this process: a grace period of no time."""
    from fromscratch.serve.limits import Limits
    from tests.serve.live import FOREVER, serving
    from tests.serve.parrot import endless

    with serving(endless(), limits=Limits(grace_seconds=0, parallel=1)) as live:
        asked = {"prompt": "x", "max_tokens": 8000, "logit_bias": FOREVER}
        streamed, plain = live.raw(asked | {"stream": True}), live.raw(asked)
        until(lambda: live.scheduler.n_running == 1 and live.scheduler.n_waiting == 1)
        live.server.stop()
        answers = []
        for connection in (streamed, plain):
            data = b""
            while part := connection.recv(65536):
                data += part
            answers.append(data)
    assert any(b"HTTP/1.1 503" in answer for answer in answers)
    assert all(b"The server is shutting down." in answer for answer in answers)


def test_a_second_stop_ends_at_once(parrot_folder: Path) -> None:
    program, port = started(parrot_folder)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest("POST", "/v1/completions")
    connection.putheader("Content-Length", "100")
    connection.endheaders(b"{")  # a request that does not come to its end
    time.sleep(0.3)
    begin = time.monotonic()
    program.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert program.poll() is None, "it waits for the request"
    program.send_signal(signal.SIGINT)
    ended(program)
    assert time.monotonic() - begin < 15
