"""The page: a handful of files that a browser takes as they are."""

from __future__ import annotations

import hashlib
from importlib.resources import files

from fastapi import FastAPI, Request, Response

from fromscratch.serve.errors import ApiError

_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_INDEX = "index.html"


def add_routes(app: FastAPI) -> None:
    """`/` and `/page/FILE`; they are no part of the API, so its document does not name them."""
    folder = files("fromscratch.serve") / "page"
    found = {
        file.name: (file.read_bytes(), kind)
        for file in folder.iterdir()
        for ending, kind in _KINDS.items()
        if file.name.endswith(ending)
    }

    def give(name: str, request: Request) -> Response:
        if name not in found:
            raise ApiError(404, "The page has no such file.", code="not_found")
        content, kind = found[name]
        tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
        headers = {"Content-Type": kind, "ETag": tag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers)

    @app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
    async def index(request: Request) -> Response:
        return give(_INDEX, request)

    @app.api_route("/page/{name}", methods=["GET", "HEAD"], include_in_schema=False)
    async def file(name: str, request: Request) -> Response:
        return give(name, request)

    @app.get("/favicon.ico", include_in_schema=False)
    async def icon(request: Request) -> Response:
        return give("icon.svg", request)
