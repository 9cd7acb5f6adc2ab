"""The server of a watched report: its own two addresses, this machine only, nothing else."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fromscratch.foundation.errors import UserError
from fromscratch.report.read import RunReader, read_run
from fromscratch.report.serve import LivePage, open_server

RunMaker = Callable[..., Path]


@contextmanager
def served(*runs: Path) -> Iterator[int]:
    server, address = open_server(runs, port=0)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield int(address.rsplit(":", 1)[1].strip("/"))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(
    port: int, path: str = "/", *, host: str | None = None, method: str = "GET"
) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host if host is not None else f"127.0.0.1:{port}")
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, dict(answer.getheaders()), body


def test_only_its_own_pages_are_served(make_run: RunMaker) -> None:
    with served(make_run(30)) as port:
        status, headers, body = ask(port)
        assert status == 200
        assert headers["Cache-Control"] == "no-store"
        assert "connect-src &#x27;self&#x27;;" in body
        version = json.loads(ask(port, "/version")[2])["version"]
        assert f'data-version="{version}"' in body
        for path in ("/metrics.jsonl", "/../metrics.jsonl", "/index.html", "/%2e%2e/"):
            assert ask(port, path)[0] == 404
        for method in ("POST", "PUT", "DELETE"):
            assert ask(port, method=method)[0] == 501
        assert ask(port, method="HEAD")[2] == ""


@pytest.mark.parametrize("host", ["evil.example", "evil.example:{port}", "127.0.0.1", ""])
def test_another_host_s_name_is_refused(make_run: RunMaker, host: str) -> None:
    with served(make_run(30)) as port:
        status, _, body = ask(port, host=host.format(port=port))
        assert status == 403
        assert "try-1" not in body
        assert ask(port, host=f"localhost:{port}")[0] == 200


def test_it_listens_on_the_loopback_address_only(make_run: RunMaker) -> None:
    server, _ = open_server([make_run(5)], port=0)
    assert server.server_address[0] == "127.0.0.1"
    server.server_close()


def test_a_port_in_use_is_told_or_another_taken(make_run: RunMaker) -> None:
    run = make_run(5)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match="cannot be listened on"):
            open_server([run], port=taken.getsockname()[1])


def test_only_what_is_new_is_read_and_rewritten_files_are_read_again(make_run: RunMaker) -> None:
    run = make_run(300)
    path = run / "metrics.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:100]) + lines[100][:20])
    reader = RunReader(run)
    assert any("half-written" in p.what for p in reader.read().problems)
    with open(path, "ab") as file:
        file.write(lines[100][20:-1])  # the row is whole, its line end is not there yet
    reader.read()
    with open(path, "ab") as file:
        file.write(b"\n" + b"".join(lines[101:]))
    grown, fresh = reader.read(), read_run(run)
    assert grown.problems == fresh.problems == ()
    assert grown.training.column("loss").tolist() == fresh.training.column("loss").tolist()
    # A resume drops rows: in a new file, or in the same one.
    for write in (
        lambda: path.write_bytes(b"".join(lines[:50])),
        lambda: ((run / "new").write_bytes(b"".join(lines[50:])), (run / "new").replace(path)),
        path.unlink,
    ):
        write()
        grown, fresh = reader.read(), read_run(run)
        assert grown.training.step.tolist() == fresh.training.step.tolist()
        assert grown.problems == fresh.problems


def test_the_page_is_made_anew_only_when_a_file_has_changed(make_run: RunMaker) -> None:
    run = make_run(30)
    live = LivePage([run])
    first, version = live.html(), live.version()
    assert live.html() is first
    with open(run / "events.jsonl", "a") as file:
        file.write('{"event": "resumed", "step": 3, "time": ""}\n')
    assert live.version() != version
    assert live.html() != first


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_watch_is_ended_by_ctrl_c(make_run: RunMaker, end: signal.Signals) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "fromscratch", "watch", str(make_run(30)), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1", "NO_COLOR": "1"},
    )
    assert child.stdout is not None
    said = child.stdout.readline()
    found = re.search(r"http://127\.0\.0\.1:(\d+)/", said)
    assert found, (said, child.stderr.read() if child.stderr and not said else "")
    assert "try-1" in ask(int(found[1]))[2]
    child.send_signal(end)
    out, err = child.communicate(timeout=30)
    assert child.returncode == 0, err
    assert "not watching any more" in out
    assert "Traceback" not in err
