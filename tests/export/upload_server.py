"""A local server that speaks the part of the hub's protocol by which repositories are made.

    GET  /api/whoami-v2                               who a token belongs to
    POST /api/repos/create                            a repository; 409 where it is there
    GET  /api/{models,spaces}/ORG/NAME[/revision/REV] what it holds, with sizes and sha256
    POST /api/validate-yaml                           whether a card's header is well-formed
    POST /api/.../preupload/REV                       which files go to LFS
    POST /ORG/NAME.git/info/lfs/objects/batch         where their content goes
    PUT  /lfs/OID                                     the content
    POST /api/.../commit/REV                          a commit, as lines of JSON

Requests need the token, content that goes to /lfs must come without it, and what a commit says was
uploaded must have been.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_the_secret_of_the_tests"


@dataclass
class Made:
    """A repository that was made here."""

    kind: str
    private: bool
    sdk: str | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    large: set[str] = field(default_factory=set)
    commits: list[str] = field(default_factory=list)


class UploadServer:
    """Runs in threads of this process; use as a context manager."""

    def __init__(self) -> None:
        self.repos: dict[str, Made] = {}
        self.blobs: dict[str, bytes] = {}
        self.trouble: dict[str, int] = {}  # a part of a path -> the status it is answered with
        self.spoil = False  # whether stored files are not those that came
        server = self

        class Handler(_Handler):
            hub = server

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._http.server_address[1]}"

    def __enter__(self) -> UploadServer:
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: UploadServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        for part, status in self.hub.trouble.items():
            if part in path:
                return self._send(status, {"error": "no"})
        if path.startswith("/lfs/"):
            assert "Authorization" not in self.headers
            self.hub.blobs[path.removeprefix("/lfs/")] = body
            return self._send(200, {})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._send(401, {"error": "Invalid credentials"})
        if path == "/api/whoami-v2":
            return self._send(200, {"name": "somebody", "type": "user"})
        if path == "/api/validate-yaml":
            return self._send(200, {"errors": [], "warnings": []})
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if match := re.fullmatch(r"/(?:spaces/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch", path):
            return self._batch(json.loads(body))
        match = re.fullmatch(r"/api/(model|space)s/([^/]+/[^/]+)(?:/(\w+)/([^/]+))?", path)
        repo = self.hub.repos.get(match[2]) if match else None
        if match is None or repo is None or repo.kind != match[1]:
            return self._send(404, {"error": "not found"}, "RepoNotFound")
        if match[3] == "preupload":
            return self._preupload(json.loads(body))
        if match[3] == "commit":
            return self._commit(repo, match[2], body)
        return self._info(repo, match[2])

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        url = {"url": f"{self.hub.endpoint}/{name}"}
        if name in self.hub.repos:
            return self._send(409, url | {"error": "You already created this repo"})
        private = asked.get("private") or asked.get("visibility") == "private"
        self.hub.repos[name] = Made(asked.get("type", "model"), bool(private), asked.get("sdk"))
        return self._send(200, url)

    def _preupload(self, asked: dict[str, Any]) -> None:
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs"
                if file["path"].endswith((".safetensors", ".png"))
                else "regular",
                "shouldIgnore": False,
                "oid": None,
            }
            for file in asked["files"]
        ]
        self._send(200, {"files": files})

    def _batch(self, asked: dict[str, Any]) -> None:
        objects = [
            {**o, "actions": {"upload": {"href": f"{self.hub.endpoint}/lfs/{o['oid']}"}}}
            for o in asked["objects"]
        ]
        self._send(200, {"transfer": "basic", "objects": objects})

    def _commit(self, repo: Made, name: str, body: bytes) -> None:
        for line in body.decode().splitlines():
            row = json.loads(line)
            value = row["value"]
            if row["key"] == "file":
                assert value["encoding"] == "base64"
                repo.files[value["path"]] = base64.b64decode(value["content"])
            elif row["key"] == "lfsFile":
                content = self.hub.blobs[value["oid"]]
                assert hashlib.sha256(content).hexdigest() == value["oid"]
                repo.files[value["path"]] = content[:-1] if self.hub.spoil else content
                repo.large.add(value["path"])
        oid = hashlib.sha1(f"{name} {len(repo.commits)}".encode()).hexdigest()
        repo.commits.append(oid)
        url = f"{self.hub.endpoint}/{name}/commit/{oid}"
        self._send(
            200, {"success": True, "commitOid": oid, "commitUrl": url, "pullRequestUrl": None}
        )

    def _info(self, repo: Made, name: str) -> None:
        siblings = []
        for path, content in repo.files.items():
            entry: dict[str, Any] = {"rfilename": path, "size": len(content), "blobId": "0" * 40}
            if path in repo.large:
                digest = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"sha256": digest, "size": len(content), "pointerSize": 130}
            siblings.append(entry)
        sha = repo.commits[-1] if repo.commits else "0" * 40
        self._send(200, {"id": name, "sha": sha, "private": repo.private, "siblings": siblings})

    def _send(self, status: int, value: dict[str, Any], code: str | None = None) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if code is not None:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        self.wfile.write(body)
