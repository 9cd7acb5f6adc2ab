"""`fromscratch generate`: a model continues a prompt."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from fromscratch.cli.sampling_settings import TypedSettings, takes_settings
from fromscratch.cli.show import err, print_json
from fromscratch.cli.terminal_text import TextWriter
from fromscratch.cli.vocabulary import argument, option
from fromscratch.foundation.errors import UserError

if TYPE_CHECKING:
    from fromscratch.cli.generate_work import Job

_MOST_SAMPLES = 1_000


@takes_settings(max_new_tokens=128)
def run(
    model: str = argument("MODEL"),
    prompt: str = argument("PROMPT", ""),
    *,
    settings: TypedSettings,
    n: int = option("n", 1, short="-n", min=1, max=_MOST_SAMPLES),
    logprobs: int = option("logprobs", min=0, max=20),
    slide: bool = option("slide", True),
    quantize: str = option("quantize"),
    dtype: str = option("dtype", "auto", of="auto chooses by the device"),
    device: str = option("device", "auto"),
    as_json: bool = option("json", False),
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

    wanted = settings.checked()
    bundle = open_model(model, device=device, dtype=dtype, quantize=quantize)
    job = Job(bundle, prompt, wanted, slide=slide, logprobs=logprobs)
    writer = TextWriter(sys.stdout)
    if as_json:
        found = samples(job, n)
        print_json(result_of(job, found.samples))
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
