"""`fromscratch serve`: a model behind OpenAI's API, with a page to talk to it."""

from __future__ import annotations

import importlib.util
import os
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from fromscratch.cli.show import print_warning, say
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.names import RUN_CHECKPOINTS

if TYPE_CHECKING:
    from fromscratch.checkpoint.bundle import ModelBundle

TOKEN = "FROMSCRATCH_API_TOKEN"


def run(
    model: str = typer.Argument(
        ..., help="A run, a checkpoint, a Hugging Face folder, or ORG/NAME on the hub."
    ),
    host: str = typer.Option("127.0.0.1", help="Address to listen on; others need --api-token."),
    port: int = typer.Option(
        None, min=0, max=65535, help="Port [8000, or any free one if that is taken; 0: any]."
    ),
    api_token: str = typer.Option(
        None, help=f"What requests must carry; {TOKEN} in the environment does not show in `ps`."
    ),
    name: str = typer.Option(None, help="As which the model is served [its folder's name]."),
    template: str = typer.Option(
        None, help="Chat template, where the model's folder has none of ours."
    ),
    device: str = typer.Option("auto", help="auto, cpu, cuda, cuda:1 or mps."),
    dtype: str = typer.Option("auto", help="Of the weights: auto, float32, bfloat16 or float16."),
    quantize: str = typer.Option(None, help="int8: nearly twice as fast on a CPU, a little worse."),
    parallel: int = typer.Option(8, min=1, help="Texts that are written at the same time."),
    queue: int = typer.Option(64, min=1, help="Texts that may wait; more are told to come again."),
    max_new_tokens: int = typer.Option(
        None, min=1, help="Tokens of one text at most [what the context leaves]."
    ),
    max_texts: int = typer.Option(16, min=1, help="Texts of one request at most (n)."),
    max_seconds: float = typer.Option(300.0, help="Time for one text; it ends as it is by then."),
    max_body: int = typer.Option(1_000_000, min=1, help="Bytes of a request at most."),
    allow_origin: list[str] = typer.Option(
        [], help="Another site whose pages may use the server, as https://example.org; repeatable."
    ),
    browser: bool = typer.Option(False, "--open", help="Open the page in the browser."),
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
