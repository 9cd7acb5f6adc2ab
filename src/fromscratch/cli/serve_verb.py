"""`fromscratch serve`: a model behind OpenAI's API, with a page to talk to it."""

from __future__ import annotations

import importlib.util
import os
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

from fromscratch.cli.show import print_warning, say
from fromscratch.cli.vocabulary import argument, option
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.names import RUN_CHECKPOINTS

if TYPE_CHECKING:
    from fromscratch.checkpoint.bundle import ModelBundle

TOKEN = "FROMSCRATCH_API_TOKEN"


def run(
    model: str = argument("MODEL"),
    host: str = option("host", "127.0.0.1"),
    port: int = option(
        "port", of="and of the API", min=0, max=65535, show_default="8000, or any that is free"
    ),
    api_token: str = option("api-token"),
    name: str = option("name", of="the model", show_default="its folder's name"),
    template: str = option("template", of="where the model's folder has none of ours"),
    device: str = option("device", "auto"),
    dtype: str = option("dtype", "auto", of="auto chooses by the device"),
    quantize: str = option("quantize"),
    parallel: int = option("parallel", 8, min=1),
    queue: int = option("queue", 64, min=1),
    max_new_tokens: int = option(
        "max-new-tokens", of="in one text", min=1, show_default="what the context leaves"
    ),
    max_texts: int = option("max-texts", 16, min=1),
    max_seconds: float = option("max-seconds", 300.0),
    max_body: int = option("max-body", 1_000_000, min=1),
    allow_origin: list[str] = option("allow-origin", []),
    browser: bool = option("open", False),
) -> None:
    """Serves a model on this machine: OpenAI's API under /v1, and a page. Ctrl-C ends it.

    Example: fromscratch serve runs/try
    """
    _check_packages()
    from fromscratch.generate.ready import make_ready
    from fromscratch.serve.app import Access, make_app
    from fromscratch.serve.guarding import is_loopback
    from fromscratch.serve.limits import Limits
    from fromscratch.serve.running import Server, address_of, check_access, open_socket
    from fromscratch.serve.running import run as run_server

    token = api_token if api_token is not None else os.environ.get(TOKEN)
    check_access(host, token)
    limits = Limits(
        parallel=parallel,
        queue=queue,
        texts=max_texts,
        new_tokens=max_new_tokens,
        seconds=max_seconds,
        body_bytes=max_body,
    )
    # Before the model is read, which may take a while.
    opened = open_socket(host, port)
    with opened:
        bundle = _loaded(model, template)
        make_ready(bundle.model, device=device, dtype=dtype, quantize_to=quantize)
        served_as = name or _name_of(model)
        access = Access(token=token, loopback=is_loopback(host), origins=tuple(allow_origin))
        served = make_app(bundle, served_as, limits=limits, access=access)
        address = address_of(opened)
        if not access.loopback:
            print_warning(
                "requests and answers are not encrypted: put a proxy with TLS before it, unless "
                "the network is yours alone."
            )
        say(f"serving {served_as} on {address}")
        say(f"  a page to talk to it: {address}/")
        say(f"  OpenAI's API:         {address}/v1")
        if bundle.template is None:
            say("  a base model: it continues text; a finetuned one would chat.")
        say("Ctrl-C ends it.")
        if browser:
            webbrowser.open(address)
        server = Server(
            served, limits, on_stop=lambda: say("ending; once more Ctrl-C ends it at once")
        )
        run_server(server, opened)
    say("not serving any more")


def _check_packages() -> None:
    for package in ("fastapi", "uvicorn", "prometheus_client"):
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"Serving needs the package {package}.", fix="pip install 'fromscratch[serve]'"
            )


def _loaded(model: str, template: str | None) -> ModelBundle:
    """The model, with the chat template that was asked for."""
    from dataclasses import replace

    from fromscratch.chat.conversations import Message
    from fromscratch.chat.rendering import prompt_ids, stop_ids
    from fromscratch.chat.template import template_named
    from fromscratch.checkpoint.bundle import load_bundle

    chosen = None if template is None else template_named(template)
    bundle = load_bundle(model)
    if chosen is not None:
        # Fails where the tokenizer lacks the template's tokens: untrained ones would mean nothing.
        stop_ids(chosen, bundle.tokenizer)
        prompt_ids(chosen, bundle.tokenizer, [Message("user", "")])
        bundle = replace(bundle, template=chosen)
    return bundle


def _name_of(model: str) -> str:
    """The last part of its path; of a checkpoint, the run's."""
    from fromscratch.checkpoint.hub_model import is_hub_name

    if is_hub_name(model):
        return model
    path = Path(model).expanduser().resolve()
    if path.parent.name == RUN_CHECKPOINTS:
        path = path.parent.parent
    if not path.name:
        raise UserError(f"{model} has no name.", fix="Give the model one with --name.")
    return path.name
