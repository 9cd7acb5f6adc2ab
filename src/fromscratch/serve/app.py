"""The server's routes.

In: a model, its limits, who may ask. Out: an ASGI application. What always holds: whatever is
asked, the answer is of the shape that `/openapi.json` says, errors too; a request that cannot be
served as it is asked is refused, and never served a little differently.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from fromscratch import __version__
from fromscratch.checkpoint.bundle import ModelBundle
from fromscratch.model.count import count_parameters
from fromscratch.serve import errors, page_files
from fromscratch.serve.answers import (
    ChatAnswer,
    ErrorAnswer,
    Health,
    ModelCard,
    ModelList,
    TextAnswer,
)
from fromscratch.serve.asking import Asking
from fromscratch.serve.chats import Chats
from fromscratch.serve.completions import Completions
from fromscratch.serve.errors import ApiError
from fromscratch.serve.guarding import Guard
from fromscratch.serve.limits import Limits
from fromscratch.serve.metrics import CONTENT_TYPE, Metrics
from fromscratch.serve.scheduler import Scheduler
from fromscratch.serve.schemas import FIELDS, ChatRequest, CompletionRequest
from fromscratch.serve.streaming import EventStream
from fromscratch.serve.token_texts import TokenTexts
from fromscratch.serve.writing import ClientLeft, Writing, while_there

_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer} for status in (400, 401, 403, 404, 405, 408, 413, 429, 500, 503)
}
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}
}


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Attributes:
        token: What requests must carry; None: nothing.
        loopback: Whether the server listens on this machine only.
        origins: Of other sites whose pages may use the server.
    """

    token: str | None = None
    loopback: bool = True
    origins: Sequence[str] = ()


@dataclass(frozen=True)
class Served:
    """An application and what runs behind it."""

    app: ASGIApp
    scheduler: Scheduler


def make_app(bundle: ModelBundle, name: str, *, limits: Limits, access: Access) -> Served:
    """The application for a model; its scheduler runs from the application's start to its end.

    Args:
        bundle: The model.
        name: As which it is served.
        limits: The server's bounds.
        access: Who may ask.
    """
    metrics = Metrics()
    scheduler = Scheduler(bundle, limits, metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        scheduler.start()
        yield
        scheduler.close()

    app = FastAPI(
        title="fromscratch",
        version=__version__,
        description="A language model behind OpenAI's API.",
        # Their pages would be fetched from other sites.
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        responses=_ERRORS,
    )
    _add_errors(app)
    _add_model(app, bundle, name)
    _add_writing(app, bundle, name, limits, scheduler)
    _add_state(app, scheduler, metrics)
    page_files.add_routes(app)
    app.openapi = lambda: _described(app)  # type: ignore[method-assign]
    guard = Guard(
        app,
        token=access.token,
        loopback=access.loopback,
        origins=access.origins,
        limits=limits,
        metrics=metrics,
        routes={route.path for route in app.routes if hasattr(route, "path")},
    )
    return Served(guard, scheduler)


def _add_writing(
    app: FastAPI, bundle: ModelBundle, name: str, limits: Limits, scheduler: Scheduler
) -> None:
    asking = Asking(bundle, name, limits)
    texts = TokenTexts(bundle.tokenizer)
    fingerprint = f"fs-{bundle.sha256[:12]}"

    def head(kind: str) -> dict[str, Any]:
        return {
            "id": f"{kind}-{uuid4().hex}",
            "created": int(time.time()),
            "model": name,
            "system_fingerprint": fingerprint,
        }

    async def answer(
        maker: Completions | Chats, writing: Writing, request: Request, stream: bool
    ) -> Response:
        if stream:
            return EventStream(maker.pieces(), leave_off=writing.leave_off)
        try:
            found: BaseModel = await while_there(maker.whole(), request.receive)
        except ClientLeft:
            return Response(status_code=499)  # which nobody reads
        finally:
            writing.leave_off()
        return Response(found.model_dump_json(), media_type="application/json")

    @app.post("/v1/completions", response_model=TextAnswer, responses=_STREAM)
    async def completions(body: CompletionRequest, request: Request) -> Response:
        """Continues texts."""
        writing = Writing(await asking.completion(body), scheduler, limits)
        maker = Completions(
            texts,
            writing,
            head("cmpl"),
            logprobs=body.logprobs,
            include_usage=bool(body.stream_options and body.stream_options.include_usage),
        )
        return await answer(maker, writing, request, bool(body.stream))

    @app.post("/v1/chat/completions", response_model=ChatAnswer, responses=_STREAM)
    async def chat_completions(body: ChatRequest, request: Request) -> Response:
        """Answers the last message of a conversation."""
        writing = Writing(await asking.chat(body), scheduler, limits)
        maker = Chats(
            texts,
            writing,
            head("chatcmpl"),
            logprobs=bool(body.logprobs),
            include_usage=bool(body.stream_options and body.stream_options.include_usage),
        )
        return await answer(maker, writing, request, bool(body.stream))


def _add_model(app: FastAPI, bundle: ModelBundle, name: str) -> None:
    config = bundle.model.config
    card = ModelCard(
        id=name,
        created=int(time.time()),
        context=config.context,
        chat=bundle.template is not None,
        template=None if bundle.template is None else bundle.template.name,
        parameters=count_parameters(config).total,
        sha256=bundle.sha256,
    )

    @app.get("/v1/models")
    async def models() -> ModelList:
        """The model that is served."""
        return ModelList(data=[card])

    @app.get("/v1/models/{model:path}")
    async def model(model: str) -> ModelCard:
        """The same by its name."""
        if model != name:
            raise ApiError(
                404, f"The model here is {name}; there is no other.", code="model_not_found"
            )
        return card


def _add_state(app: FastAPI, scheduler: Scheduler, metrics: Metrics) -> None:
    @app.get("/health")
    async def health() -> Health:
        """Whether the model answers."""
        if not scheduler.is_working:
            raise ApiError(503, "The model does not take requests.", code="not_working")
        return Health()

    @app.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def numbers() -> Response:
        """Load, speed and refusals, for Prometheus."""
        return Response(metrics.text(), headers={"Content-Type": CONTENT_TYPE})


def _add_errors(app: FastAPI) -> None:
    def told(error: ApiError, more: dict[str, str] | None = None) -> Response:
        return Response(
            error.body,
            status_code=error.status,
            headers=error.headers | (more or {}),
            media_type="application/json",
        )

    @app.exception_handler(ApiError)
    async def of_ours(_: Request, error: ApiError) -> Response:
        return told(error)

    @app.exception_handler(RequestValidationError)
    async def of_fields(request: Request, error: RequestValidationError) -> Response:
        known = FIELDS.get(request.url.path, {})
        return told(errors.of_validation(list(error.errors()), known))

    @app.exception_handler(HTTPException)
    async def of_http(request: Request, error: HTTPException) -> Response:
        says = {
            400: ("The body is not JSON that can be read.", "invalid_json"),
            404: (
                "There is nothing at this address; /openapi.json says what there is.",
                "not_found",
            ),
            405: (f"This address does not take {request.method[:10]}.", "method_not_allowed"),
        }
        sentence, code = says.get(error.status_code, (str(error.detail), None))
        return told(ApiError(error.status_code, sentence, code=code), dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def of_anything(_: Request, error: Exception) -> Response:
        return told(errors.INTERNAL)


def _described(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document: what FastAPI makes, without its answers that are never given."""
    if not app.openapi_schema:
        found = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes
        )
        for path in found["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        for unused in ("HTTPValidationError", "ValidationError"):
            found["components"]["schemas"].pop(unused, None)
        app.openapi_schema = found
    return app.openapi_schema
