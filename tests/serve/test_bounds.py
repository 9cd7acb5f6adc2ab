"""What one client may take from the others: every limit, and clients that misbehave."""

from __future__ import annotations

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from fromscratch.checkpoint.bundle import ModelBundle
from fromscratch.serve.limits import Limits
from tests.serve.live import FOREVER, Live, serving, until

LONG = {"prompt": "x", "max_tokens": 8000, "logit_bias": FOREVER}
SHORT = {"prompt": "x", "max_tokens": 2, "logit_bias": FOREVER}
STEPS = "fromscratch_decode_steps_total"


def tight(**bounds: float) -> Limits:
    return Limits(**{"grace_seconds": 0.2} | bounds)  # type: ignore[arg-type]


def read_all(connection: socket.socket) -> bytes:
    """Until the server closes."""
    parts = []
    try:
        while part := connection.recv(65536):
            parts.append(part)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def test_a_full_queue_says_when_to_come_again(talker: ModelBundle) -> None:
    with serving(talker, limits=tight(parallel=2, queue=2, texts=2)) as live:
        busy = [live.raw(LONG | {"stream": True}) for _ in range(2)]
        until(lambda: live.scheduler.n_running == 2)
        busy += [live.raw(LONG | {"stream": True}) for _ in range(2)]
        until(lambda: (live.scheduler.n_running, live.scheduler.n_waiting) == (2, 2))
        answer = live.ask("/v1/completions", SHORT)
        assert answer.status == 429
        assert answer.headers["retry-after"] == "1"
        assert answer.error["type"] == "rate_limit_error"
        with pytest.raises(openai.RateLimitError):
            live.client().completions.create(model="parrot", prompt="x")
        assert live.number("fromscratch_turned_away_total") == 2
        assert live.number("fromscratch_texts_waiting") == 2
        assert live.ask("/health").status == 200
        for connection in busy:
            connection.close()
        until(lambda: live.scheduler.n_running + live.scheduler.n_waiting == 0)
        assert live.ask("/v1/completions", SHORT).status == 200


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_slot_within_a_token(
    talker: ModelBundle, stream: bool
) -> None:
    with serving(talker, limits=tight(parallel=1)) as live:
        connection = live.raw(LONG | {"stream": stream})
        until(lambda: live.number(STEPS) > 20)
        connection.close()
        until(lambda: live.scheduler.n_running == 0, seconds=2)
        steps = live.number(STEPS)
        assert steps < 7000, "it was not simply done"
        time.sleep(0.05)
        assert live.number(STEPS) == steps, "nothing is written for nobody"
        assert live.number('fromscratch_texts_total{ended_by="client_left"}') == 1


def test_no_step_is_made_for_a_text_that_is_given_up(talker: ModelBundle) -> None:
    """The flag is looked at before every step: the model's thread is held in one meanwhile."""
    with serving(talker, limits=tight(parallel=1)) as live:
        inside, go_on = threading.Event(), threading.Event()
        step = live.scheduler._slots.step

        def held() -> object:
            inside.set()
            go_on.wait(10)
            return step()

        live.scheduler._slots.step = held  # type: ignore[assignment, method-assign]
        connection = live.raw(LONG | {"stream": True})
        inside.wait(10)
        connection.close()
        (job,) = live.scheduler._running.values()
        until(lambda: job.cancelled)
        go_on.set()
        until(lambda: live.scheduler.n_running == 0)
        assert job.n_tokens == 1, "only the step that was under way"


def test_a_text_s_time_ends_it(talker: ModelBundle) -> None:
    with serving(talker, limits=tight(parallel=1, seconds=0.3)) as live:
        waiting = live.raw(LONG)
        answer = live.ask("/v1/completions", LONG)
        whole, other = answer.json, json.loads(read_body(waiting))
        (choice,) = [a["choices"][0] for a in (whole, other) if "choices" in a][:1]
        assert (choice["finish_reason"], choice["ended_by"]) == ("length", "time")
        late = [a for a in (whole, other) if "error" in a]
        assert [a["error"]["code"] for a in late] in ([], ["timeout"])


def read_body(connection: socket.socket) -> bytes:
    """Of an answer whose length is told."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536)
    return body


def test_the_number_of_tokens_and_texts(talker: ModelBundle) -> None:
    with serving(talker, limits=tight(new_tokens=10, texts=2)) as live:
        assert (
            live.ask("/v1/completions", SHORT | {"max_tokens": 11}).error["param"] == "max_tokens"
        )
        assert live.ask("/v1/completions", SHORT | {"n": 3}).error["param"] == "n"
        assert live.ask("/v1/completions", SHORT | {"prompt": ["x"] * 3}).error["param"] == "n"
        usual = live.ask("/v1/completions", {"prompt": "x", "logit_bias": FOREVER})
        assert usual.json["usage"]["completion_tokens"] == 10


@pytest.mark.parametrize("chunked", [True, False])
def test_too_large_a_body(based: Live, talker: ModelBundle, chunked: bool) -> None:
    with serving(talker, limits=tight(body_bytes=2000)) as live:
        assert live.ask("/v1/completions", {"prompt": "x" * 1500}).status == 200
        body = json.dumps({"prompt": "x" * 3000}).encode()
        connection = live.socket()
        head = (
            "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        )
        if chunked:
            connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
            for byte in range(0, len(body), 100):
                part = body[byte : byte + 100]
                connection.sendall(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            connection.sendall(b"0\r\n\r\n")
        else:
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = read_all(connection)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b'"code": "body_too_large"' in answer
        # One that is far too large is not read to its end.
        connection = live.socket()
        connection.sendall(
            f"{head}Content-Length: 10000000000\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        assert read_all(connection).startswith(b"HTTP/1.1 413 ")


def test_slow_and_half_open_clients_hold_nothing(talker: ModelBundle) -> None:
    bounds = tight(head_seconds=0.4, body_seconds=0.4, connections=40)
    with serving(talker, limits=bounds) as live:
        silent = live.socket()
        dripping = live.socket()
        dripping.sendall(b"POST /v1/completions HTTP/1.1\r\n")
        bodiless = live.socket()
        bodiless.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n{"
        )
        again = live.socket()  # a whole request first, and then half of one
        again.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /hea")
        stop = threading.Event()

        def drip() -> None:
            while not stop.wait(0.1):
                for connection in (dripping, again):
                    try:
                        connection.sendall(b"X")
                    except OSError:
                        return

        with ThreadPoolExecutor(1) as pool:
            pool.submit(drip)
            # Others are served meanwhile.
            assert live.ask("/v1/completions", SHORT).status == 200
            assert read_all(silent) == b""
            assert read_all(dripping).startswith(b"HTTP/1.1 408 ")
            answer = read_all(again)
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert b"HTTP/1.1 408 " in answer
            stop.set()
        assert read_all(bodiless).startswith(b"HTTP/1.1 408 ")
        until(lambda: len(live.server.server_state.connections) == 0)


def test_connections_are_counted(talker: ModelBundle) -> None:
    with serving(talker, limits=tight(connections=5, head_seconds=20)) as live:
        idle = [live.socket() for _ in range(5)]
        until(lambda: len(live.server.server_state.connections) == 5)
        answer = read_all(live.socket())
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b'"code": "overloaded"' in answer
        idle.pop().close()
        until(lambda: len(live.server.server_state.connections) == 4)
        assert live.ask("/health").status == 200
        for connection in idle:
            connection.close()


def test_a_client_that_does_not_read_is_cut_off(talker: ModelBundle) -> None:
    with serving(talker, limits=tight(stall_seconds=0.3, parallel=8)) as live:
        deaf = live.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        body = json.dumps(LONG | {"stream": True, "logprobs": 20, "n": 8}).encode()
        deaf.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\n"
            + f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        until(lambda: live.scheduler.n_running == 8)
        until(lambda: live.scheduler.n_running == 0)
        assert live.number('fromscratch_texts_total{ended_by="client_left"}') == 8
        deaf.close()


def test_what_is_no_http(based: Live) -> None:
    connection = based.socket()
    connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
    answer = read_all(connection)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "invalid_http"
    connection = based.socket()
    connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 40_000)
    assert read_all(connection).startswith(b"HTTP/1.1 400 ")


def test_a_step_that_fails_is_told_and_the_next_one_works(
    talker: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(talker, limits=tight()) as live:
        connection = live.raw(LONG | {"stream": True})
        until(lambda: live.number(STEPS) > 5)

        def broken(*_: object, **__: object) -> None:
            raise RuntimeError("out of memory")

        with monkeypatch.context() as patch:
            patch.setattr(live.bundle.model, "hidden", broken)
            answer = b""
            while b"[DONE]" not in answer and b'"error"' not in answer:
                answer += connection.recv(65536)
        assert b"its terminal says what" in answer
        assert b"out of memory" not in answer
        assert live.ask("/v1/completions", SHORT).status == 200
