"""`fromscratch generate`: a model continues a prompt."""

from __future__ import annotations

import json
import sys
import time

import typer

from fromscratch.cli.show import err


def run(
    model: str = typer.Argument(
        ..., help="A run, a checkpoint, a Hugging Face folder, or ORG/NAME on the hub."
    ),
    prompt: str = typer.Argument("", help="What to continue; empty starts a document."),
    max_new_tokens: int = typer.Option(128, min=1, help="Tokens to write at most."),
    temperature: float = typer.Option(0.8, help="0 always takes the likeliest token."),
    top_k: int = typer.Option(50, help="Draw from the k likeliest tokens; 0 from all."),
    top_p: float = typer.Option(1.0, help="Draw from the likeliest tokens with this probability."),
    seed: int = typer.Option(0, help="Of the draws."),
    slide: bool = typer.Option(
        True, help="Past the model's context, go on with the newer half of the text; or refuse."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON for a program."),
) -> None:
    """Continues a prompt with a trained model.

    Example: fromscratch generate runs/try "import os" --temperature 0.7
    """
    from fromscratch.checkpoint.bundle import load_bundle
    from fromscratch.generate.engine import generate
    from fromscratch.generate.sampling import SamplingOptions

    options = SamplingOptions(temperature, top_k, top_p, seed)
    bundle = load_bundle(model)
    pieces = generate(bundle, prompt, max_new_tokens=max_new_tokens, options=options, slide=slide)
    begin = time.perf_counter()
    if as_json:
        content = {
            "model": str(bundle.folder),
            "sha256": bundle.sha256,
            "prompt": prompt,
            "text": "".join(pieces),
        }
        typer.echo(json.dumps(content))
        return
    sys.stdout.write(prompt)
    length = 0
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()
        length += len(piece)
    sys.stdout.write("\n")
    if err.is_terminal:
        seconds = time.perf_counter() - begin
        err.print(f"[dim]{length} characters in {seconds:.1f} s, {bundle.folder}[/]")
