"""A local HTTP server that speaks the hub's protocol, with real small files and real trouble.

What it serves, as the hub does:

    GET  /api/{datasets,models}/ORG/NAME[/revision/REV]     the commit (`sha`)
    GET  /api/datasets?search=...                           names that contain a text
    GET  /api/datasets/ORG/NAME/tree/REV[/FOLDER]           pages with a `Link` to the next
    HEAD, GET /datasets/ORG/NAME/resolve/REV/PATH           ETag, X-Repo-Commit, X-Linked-*; a small
                                                            file's content, or 302 to the CDN
    GET  /cdn/OID?once=N                                    content, ranges, an address of one use

The CDN answers under another host name than the hub, so that a client which sends its token there
is found out. Trouble is ordered with `Trouble`: for the next `times` requests that match.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

LARGE_SUFFIXES = (".parquet", ".gz", ".zst", ".bin", ".safetensors")


@dataclass
class Repo:
    """A repository: files by commit, commits by branch or tag."""

    id: str
    kind: str = "datasets"
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    refused: tuple[int, str] | None = None  # (403, "GatedRepo") to everybody
    token: str | None = None  # who does not send it is told 401, RepoNotFound
    pretended: dict[str, int] = field(default_factory=dict)  # sizes that the listing claims

    def commit(self, files: dict[str, bytes], ref: str = "main") -> str:
        """Files as the new state of a branch; the commit's hash."""
        digest = hashlib.sha1(f"{len(self.commits)}".encode())
        for path in sorted(files):
            digest.update(path.encode() + hashlib.sha256(files[path]).digest())
        sha = digest.hexdigest()
        self.commits[sha] = dict(files)
        self.refs[ref] = sha
        return sha

    def resolve(self, revision: str) -> str | None:
        return revision if revision in self.commits else self.refs.get(revision)


@dataclass
class Trouble:
    """What goes wrong with requests whose path matches, and how often."""

    match: str
    kind: str  # drop | status | slow | flip | stop-early | whole
    times: int = 1
    after: int = 0  # bytes of the body that arrive before a drop
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    per_chunk: float = 0.0  # seconds between chunks when slow


@dataclass
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    host: str
    range: str | None
    authorized: bool
    at: float
    status: int = 0
    sent: int = 0  # bytes of the body


class HubServer:
    """Runs in threads of this process; use as a context manager."""

    def __init__(self, page: int = 1000) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.trouble: list[Trouble] = []
        self.seen: list[Seen] = []
        self.page = page
        self.blobs: dict[str, bytes] = {}
        self.once = itertools.count()
        self.spent: set[str] = set()
        self.lock = threading.Lock()
        server = self

        class Handler(_Handler):
            hub = server

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.port = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, daemon=True)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> HubServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    def add(self, id: str, files: dict[str, bytes], kind: str = "datasets") -> Repo:
        repo = self.repos[(kind, id)] = Repo(id, kind)
        repo.commit(files)
        return repo

    def fetches(self, part: str = "/cdn/") -> list[Seen]:
        """Requests for content so far, in order."""
        return [s for s in self.seen if s.method == "GET" and part in s.path]

    def trouble_for(self, path: str) -> Trouble | None:
        with self.lock:
            for trouble in self.trouble:
                if trouble.times > 0 and re.search(trouble.match, path):
                    trouble.times -= 1
                    return trouble
        return None


def is_large(path: str, content: bytes) -> bool:
    return path.endswith(LARGE_SUFFIXES) or len(content) > 100_000


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"
    seen: Seen

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.seen = Seen(
            self.command,
            self.path,
            self.headers.get("Host", ""),
            self.headers.get("Range"),
            "Authorization" in self.headers,
            time.monotonic(),
        )
        self.hub.seen.append(self.seen)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._answer()

    def _answer(self) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        self.query = parse_qs(url.query)
        self.ordered = self.hub.trouble_for(path)
        if self.ordered and self.ordered.kind == "status":
            self._send(self.ordered.status, b"", self.ordered.headers)
            return
        if path.startswith("/cdn/"):
            self._cdn(path.removeprefix("/cdn/"))
        elif match := re.fullmatch(r"/api/(datasets|models)", path):
            search = self.query.get("search", [""])[0]
            names = [n for kind, n in self.hub.repos if kind == match[1] and search in n]
            self._json([{"id": name} for name in names])
        elif match := re.fullmatch(r"/api/(datasets|models)/(.+?)(?:/(revision|tree)/(.+))?", path):
            self._api(match[1], match[2], match[3], self._second_part(url.path, match[3]))
        elif match := re.fullmatch(r"/(?:(datasets)/)?([^/]+(?:/[^/]+)?)/resolve/.+", path):
            self._resolve(match[1] or "models", match[2], url.path)
        else:
            self._refuse(404, "RepoNotFound")

    @staticmethod
    def _second_part(path: str, verb: str | None) -> list[str]:
        """What follows /revision/ or /tree/, still apart: a revision may have slashes in it."""
        return [unquote(p) for p in path.split(f"/{verb}/", 1)[1].split("/")] if verb else []

    def _repo(self, kind: str, name: str) -> Repo | None:
        repo = self.hub.repos.get((kind, name))
        if repo is None:
            self._refuse(404, "RepoNotFound")
        elif repo.refused:
            self._refuse(*repo.refused)
        elif repo.token and self.headers.get("Authorization") != f"Bearer {repo.token}":
            self._refuse(401, "RepoNotFound")
        else:
            return repo
        return None

    def _api(self, kind: str, name: str, verb: str | None, rest: list[str]) -> None:
        repo = self._repo(kind, name)
        if repo is None:
            return
        sha = repo.resolve(rest[0] if rest else "main")
        if sha is None:
            self._refuse(404, "RevisionNotFound")
        elif verb == "tree":
            self._tree(repo, sha, "/".join(rest[1:]))
        else:
            self._json({"id": repo.id, "sha": sha, "private": bool(repo.token)})

    def _tree(self, repo: Repo, sha: str, folder: str) -> None:
        entries: list[dict[str, object]] = []
        start = f"{folder}/" if folder else ""
        folders: set[str] = set()
        for path, content in sorted(repo.commits[sha].items()):
            if not path.startswith(start):
                continue
            parts = path.split("/")
            for n in range(start.count("/") + 1, len(parts)):
                above = "/".join(parts[:n])
                if above not in folders:
                    folders.add(above)
                    entries.append({"type": "directory", "path": above, "size": 0, "oid": "0" * 40})
            size = repo.pretended.get(path, len(content))
            entry: dict[str, object] = {"type": "file", "path": path, "size": size}
            entry["oid"] = git_oid(content)
            if is_large(path, content):
                oid = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"oid": oid, "size": size, "pointerSize": 130}
            entries.append(entry)
        if folder and not entries:
            self._refuse(404, "EntryNotFound")
            return
        begin = int(self.query.get("cursor", ["0"])[0])
        headers = {}
        if begin + self.hub.page < len(entries):
            after = f"{urlsplit(self.path).path}?recursive=True&cursor={begin + self.hub.page}"
            headers["Link"] = f'<{self.hub.endpoint}{after}>; rel="next"'
        self._json(entries[begin : begin + self.hub.page], headers)

    def _resolve(self, kind: str, name: str, raw: str) -> None:
        repo = self._repo(kind, name)
        if repo is None:
            return
        revision, *parts = (unquote(p) for p in raw.split("/resolve/", 1)[1].split("/"))
        sha, path = repo.resolve(revision), "/".join(parts)
        if sha is None:
            self._refuse(404, "RevisionNotFound")
            return
        content = repo.commits[sha].get(path)
        if content is None:
            self._refuse(404, "EntryNotFound", {"X-Repo-Commit": sha})
            return
        headers = {"X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        if not is_large(path, content):
            self._content(content, {**headers, "ETag": f'"{git_oid(content)}"'})
            return
        oid = hashlib.sha256(content).hexdigest()
        self.hub.blobs[oid] = content
        address = f"http://localhost:{self.hub.port}/cdn/{oid}?once={next(self.hub.once)}"
        address += f"&name={quote(path)}"
        headers |= {"X-Linked-Size": str(len(content)), "X-Linked-ETag": f'"{oid}"'}
        self._send(302, b"", {**headers, "ETag": f'"{oid}"', "Location": address})

    def _cdn(self, oid: str) -> None:
        once = self.query["once"][0]
        if once in self.hub.spent or "Authorization" in self.headers:
            self._send(403, b"this address has expired, or came with a token", {})
            return
        self.hub.spent.add(once)
        name = self.query["name"][0]
        self.ordered = self.ordered or self.hub.trouble_for(f"/cdn/{name}")
        if self.ordered and self.ordered.kind == "status":
            self._send(self.ordered.status, b"", self.ordered.headers)
            return
        self._content(self.hub.blobs[oid], {"ETag": f'"{oid}"', "Accept-Ranges": "bytes"})

    def _content(self, content: bytes, headers: dict[str, str]) -> None:
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        ordered = self.ordered
        if ordered and ordered.kind == "flip":
            content = content[:-1] + bytes([content[-1] ^ 1])
        if wanted is None or (ordered and ordered.kind == "whole"):
            self._send(200, content, headers)
            return
        start, end = int(wanted[1]), int(wanted[2] or len(content) - 1)
        if start >= len(content):
            self._send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            return
        headers = {**headers, "Content-Range": f"bytes {start}-{end}/{len(content)}"}
        self._send(206, content[start : end + 1], headers)

    def _refuse(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": code, **(headers or {})})

    def _json(self, value: object, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(value).encode()
        self._send(200, body, {"Content-Type": "application/json", **(headers or {})})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        ordered = self.ordered
        if ordered and ordered.kind == "stop-early":
            body = body[: ordered.after]
        self.seen.status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        for piece in self._pieces(body):
            if ordered and ordered.kind == "slow":
                time.sleep(ordered.per_chunk)
            room = ordered.after - self.seen.sent if ordered and ordered.kind == "drop" else None
            self.wfile.write(piece if room is None else piece[:room])
            self.wfile.flush()
            self.seen.sent += len(piece if room is None else piece[:room])
            if room is not None and room <= len(piece):
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return

    @staticmethod
    def _pieces(body: bytes, size: int = 16_384) -> Iterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]
