"""`fromscratch import`: another trainer's checkpoint as a model folder."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import typer

from fromscratch.cli.show import print_warning, say
from fromscratch.cli.working import working


def run(
    checkpoint: Path = typer.Argument(
        ...,
        help="A .pt, .pth, .ckpt, .bin or .safetensors file; or a Hugging Face folder with "
        "pytorch_model.bin.",
    ),
    overrides: list[str] = typer.Argument(
        None,
        metavar="[KEY=VALUE]...",
        help="What no shape tells: n_head=12, activation=gelu_tanh, norm_eps=1e-5.",
    ),
    out: Path = typer.Option(..., help="The folder to write; new."),
    tokenizer: str = typer.Option(
        None, help="gpt2, or a folder with tokenizer.json. [default: what lies beside, or gpt2]"
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON for a program."),
) -> None:
    """Reads a checkpoint of nanoGPT and its relatives; nothing in the file is run.

    Example: fromscratch import checkpoint_step_9900.pt n_head=12 --out my-old-model
    """
    from fromscratch.export.importing import import_checkpoint

    with working("reading, and comparing"):
        made = import_checkpoint(checkpoint, out, tokenizer=tokenizer, overrides=overrides or [])
    if as_json:
        content = asdict(made) | {"config": made.config.model_dump()}
        typer.echo(json.dumps(content, default=str, indent=2))
        return
    c = made.config
    say(
        f"{made.path}: {made.parameters:,} parameters; {c.n_layer} layers, {c.n_head} heads, "
        f"width {c.d_model}, context {c.context}, {c.vocab_size:,} ids ({made.tokenizer})"
    )
    if made.step is not None:
        say(f"after step {made.step:,}")
    for note in made.notes:
        say(f"note: {note}")
    say(f"compared with {made.compared_with}: logits differ by {made.reader.largest:.1e} at most")
    if made.loss is not None:
        say(
            f"a page of English: {made.loss:.2f} nats a token (a uniform guess: {made.uniform:.2f})"
        )
    if made.is_doubtful:
        print_warning(
            "That is hardly better than a guess: if the model knows English, the tokenizer or "
            "n_head is another one."
        )
