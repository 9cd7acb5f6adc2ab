"""`fromscratch generate`: a model continues a prompt."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from fromscratch.cli.sampling_settings import Device, DType, Quantize, TextSettings, option
from fromscratch.cli.show import err
from fromscratch.cli.terminal_text import TextWriter
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.files import dump_json

if TYPE_CHECKING:
    from fromscratch.cli.generate_work import Job

_MOST_SAMPLES = 1_000


def run(
    model: str = typer.Argument(
        ..., help="A run, a checkpoint, a Hugging Face folder, or ORG/NAME on the hub."
    ),
    prompt: str = typer.Argument(
        "", help="What to continue; empty starts a document, - reads it from standard input."
    ),
    max_new_tokens: int = option("max_new_tokens", default=128, min=1),
    temperature: float = option("temperature", default=0.8),
    top_k: int = option("top_k", default=50),
    top_p: float = option("top_p", default=1.0),
    min_p: float = option("min_p", default=0.0),
    repetition_penalty: float = option("repetition_penalty", default=1.0),
    presence_penalty: float = option("presence_penalty", default=0.0),
    frequency_penalty: float = option("frequency_penalty", default=0.0),
    seed: int = option("seed", default=0),
    stop: list[str] = option("stop", default=[]),
    n: int = typer.Option(1, "--n", "-n", min=1, max=_MOST_SAMPLES, help="Samples to write."),
    logprobs: int = typer.Option(
        None,
        min=0,
        max=20,
        help="With --json: each token's log-probability, and so many of the likeliest.",
    ),
    slide: bool = typer.Option(
        True, help="Past the model's context, go on with the newer half of the text; or refuse."
    ),
    quantize: Quantize = None,
    dtype: DType = "auto",
    device: Device = "auto",
    as_json: bool = typer.Option(False, "--json", help="Print JSON for a program."),
) -> None:
    """Continues a prompt with a trained model. Ctrl-C ends the text.

    Example: fromscratch generate runs/try "import os" --temperature 0.7
    """
    if logprobs is not None and not as_json:
        raise UserError("--logprobs are printed as JSON only.", fix="Add --json.")
    if prompt == "-":
        prompt = _standard_input()
    from fromscratch.cli.generate_work import Job, result_of, samples, stream
    from fromscratch.cli.opened_model import open_model
    from fromscratch.generate.sampling import SamplingOptions

    sampling = SamplingOptions(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        presence_penalty=presence_penalty,
        frequency_penalty=frequency_penalty,
        seed=seed,
    )
    settings = TextSettings(sampling, max_new_tokens, tuple(stop))
    bundle = open_model(model, device=device, dtype=dtype, quantize=quantize)
    job = Job(bundle, prompt, settings, slide=slide, logprobs=logprobs)
    writer = TextWriter(sys.stdout)
    if as_json:
        found = samples(job, n)
        typer.echo(dump_json(result_of(job, found.samples)))
    elif n == 1:
        writer.write(prompt)
        found = stream(job, writer.write)
        writer.write("\n")
    else:
        found = samples(job, n)
        for number, sample in enumerate(found.samples, 1):
            writer.write(f"--- {number} of {n} ---\n{prompt}{sample.text}")
            writer.write("\n")
    if err.is_terminal:
        err.print(f"[dim]{found.line()}[/]")
        _remind_of_chat(job, model)
    if found.stopped:
        raise typer.Exit(130)


def _remind_of_chat(job: Job, named: str) -> None:
    if job.bundle.template is not None:
        err.print(f"it was taught to converse: fromscratch chat {named}", style="dim", markup=False)


def _standard_input() -> str:
    """All of it, without the line feed at its end that `echo` adds."""
    try:
        text = sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"Standard input is not UTF-8 (byte {error.start:,}).") from None
    return text.removesuffix("\n").removesuffix("\r")
