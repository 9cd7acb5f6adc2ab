"""Who may ask, and how much they may send: looked at before anything of a request is read.

The attacker's view: a page that a person opens must not be able to use a server on their machine.
It can send requests there, and with a name of its own that points to 127.0.0.1 (DNS rebinding) it
could read the answers. So on the loopback address a request that names another host is refused, and
everywhere one that a browser says comes from another origin, unless that origin was allowed. Beyond
the loopback address every request needs the token.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from collections.abc import Collection, Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fromscratch.serve.errors import INTERNAL, ApiError
from fromscratch.serve.limits import Limits
from fromscratch.serve.metrics import Metrics

_OPEN = ("/", "/health")
"""Without the token: the page, which asks for it, and whether there is a server at all."""
_OPEN_BELOW = "/page/"

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PATIENCE = 16
"""Times the allowed size: so much of too large a body is read before the line is cut."""
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"content-security-policy", PAGE_POLICY.encode()),
)


def is_loopback(host: str) -> bool:
    """Whether an address to listen on, or a host that a request names, is this machine only."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class Guard:
    """The outermost layer of the application.

    Args:
        app: What answers.
        token: What requests must carry; None for no such need.
        loopback: Whether the server listens on this machine only.
        origins: Of other sites whose pages may use the server.
        limits: Of a request's body.
        metrics: Told of every request.
        routes: Paths that there are; of the others no name is kept.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str | None,
        loopback: bool,
        origins: Sequence[str],
        limits: Limits,
        metrics: Metrics,
        routes: Collection[str],
    ) -> None:
        self._app = app
        self._token = None if token is None else token.encode()
        self._loopback = loopback
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)
        self._limits, self._metrics = limits, metrics
        self._routes = frozenset(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers, or refuses."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = self._allowed_origin(headers)
        began = False

        async def guarded(message: Message) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                route = scope["path"] if scope["path"] in self._routes else "other"
                self._metrics.requests.labels(route, str(message["status"])).inc()
                message["headers"] = [*message["headers"], *_HEADERS, *_sharing(origin)]
            await send(message)

        try:
            self._check(scope, headers)
            if origin and scope["method"] == "OPTIONS":
                await _answer_preflight(guarded)
                return
            body = await self._body(headers, receive)
            await self._app(scope, _replayed(body, receive), guarded)
        except ApiError as error:
            await refuse(error, guarded)
        except _Gone:
            return
        except Exception:
            if not began:
                await refuse(INTERNAL, guarded)
            raise

    def _check(self, scope: Scope, headers: Headers) -> None:
        host = headers.getlist("host")
        name = _host_name(host[0]) if len(host) == 1 else None
        if name is None:
            raise ApiError(400, "The request names no host, or several.", code="invalid_host")
        if self._loopback and not is_loopback(name):
            raise ApiError(403, "This server answers only to its own address.", code="invalid_host")
        if self._is_from_elsewhere(headers, host[0]) and not self._allowed_origin(headers):
            raise ApiError(
                403,
                "Pages of other sites may not use this server (--allow-origin lets one).",
                code="cross_origin",
            )
        preflight = scope["method"] == "OPTIONS" and self._allowed_origin(headers)
        path = scope["path"]
        if path in _OPEN or path.startswith(_OPEN_BELOW) or preflight:
            return
        self._check_token(headers)

    def _is_from_elsewhere(self, headers: Headers, host: str) -> bool:
        origin = headers.get("origin")
        if origin is not None:
            return origin.lower().partition("://")[2] != host.lower()
        # A link to the page may be followed from anywhere; nothing else is asked for that way.
        followed = headers.get("sec-fetch-mode") == "navigate"
        return headers.get("sec-fetch-site") in ("cross-site", "same-site") and not followed

    def _allowed_origin(self, headers: Headers) -> str | None:
        origin = headers.get("origin")
        return origin if origin and origin.lower() in self._origins else None

    def _check_token(self, headers: Headers) -> None:
        if self._token is None:
            return
        kind, _, given = headers.get("authorization", "").partition(" ")
        # Compared in a time that does not tell how much of it is right.
        same = hmac.compare_digest(given.strip().encode("latin-1", "replace"), self._token)
        if kind.lower() != "bearer" or not same:
            raise ApiError(
                401,
                "This server wants its token: send it as `Authorization: Bearer TOKEN`.",
                code="invalid_api_key",
            )

    async def _body(self, headers: Headers, receive: Receive) -> bytes:
        """All of the body, which is small and in time."""
        limit = self._limits.body_bytes
        said = headers.get("content-length", "0")
        is_large = said.isdigit() and (len(said) > 18 or int(said) > limit)
        if is_large and "expect" in headers:  # the client waits for a word before it sends
            raise _too_large(limit)
        body, n_bytes = bytearray(), 0
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _Gone
                    part = message.get("body", b"")
                    n_bytes += len(part)
                    # What is too much is read and thrown away for a while: a client that is still
                    # sending does not read the answer.
                    if n_bytes > limit * _PATIENCE:
                        raise _too_large(limit)
                    if n_bytes > limit:
                        body.clear()
                    else:
                        body += part
                    if not message.get("more_body", False):
                        break
        except TimeoutError:
            raise ApiError(408, "The body did not arrive in time.", code="timeout") from None
        if n_bytes > limit:
            raise _too_large(limit)
        return bytes(body)


def _too_large(limit: int) -> ApiError:
    return ApiError(
        413, f"The body is larger than this server's {limit:,} bytes.", code="body_too_large"
    )


class _Gone(Exception):  # noqa: N818  (no mistake of anybody)
    """The client left before all of its request was here."""


async def refuse(error: ApiError, send: Send) -> None:
    """Sends an error as an answer."""
    headers = {
        "content-type": "application/json",
        "content-length": str(len(error.body)),
        **error.headers,
    }
    if error.status in (408, 413):  # the rest of the body may still be on its way
        headers["connection"] = "close"
    raw = [(k.lower().encode(), v.encode()) for k, v in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": raw})
    await send({"type": "http.response.body", "body": error.body})


def _host_name(text: str) -> str | None:
    """The name in a Host header, without its port; None if it is not one."""
    if not text or any(c in text for c in "/?#@\\ "):
        return None
    try:
        return urlsplit(f"//{text}").hostname
    except ValueError:
        return None


def _sharing(origin: str | None) -> list[tuple[bytes, bytes]]:
    if origin is None:
        # Other sites may not even embed what is here.
        return [(b"cross-origin-resource-policy", b"same-origin")]
    return [(b"access-control-allow-origin", origin.encode()), (b"vary", b"Origin")]


async def _answer_preflight(send: Send) -> None:
    headers = [
        (b"access-control-allow-methods", b"GET, POST"),
        (b"access-control-allow-headers", b"authorization, content-type"),
        (b"access-control-max-age", b"600"),
    ]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body that was read, and then whatever else happens: that the client leaves."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replay
