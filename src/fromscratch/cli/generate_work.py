"""What `generate` does: one text as it comes, or several at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from fromscratch.checkpoint.bundle import ModelBundle
from fromscratch.cli.sampling_settings import TextSettings
from fromscratch.cli.stopping import stopped_by_ctrl_c
from fromscratch.generate.batch import Completion, Request, complete, samples_of
from fromscratch.generate.engine import FinishReason, TextPiece, generate_text
from fromscratch.generate.sampling import SamplingOptions
from fromscratch.generate.tokens import TokenOutput


@dataclass(frozen=True)
class Job:
    """What is to be written.

    Attributes:
        bundle: By which model.
        prompt: What it continues.
        settings: How.
        slide: Whether the window slides past the context.
        logprobs: As `top_logprobs` of the engine.
    """

    bundle: ModelBundle
    prompt: str
    settings: TextSettings
    slide: bool = True
    logprobs: int | None = None

    @property
    def ids(self) -> list[int]:
        """The prompt's; of an empty one, what begins a document."""
        return self.bundle.tokenizer.encode(self.prompt) or [self.bundle.tokenizer.eot_id]


@dataclass
class Found:
    """What was written.

    Attributes:
        samples: Each text, with its tokens.
        seconds: It took.
        stopped: Whether Ctrl-C ended it; then samples that were not begun are not there.
    """

    samples: list[Completion] = field(default_factory=list)
    seconds: float = 0.0
    stopped: bool = False

    def line(self) -> str:
        """How much that was, and how fast."""
        tokens = sum(len(sample.tokens) for sample in self.samples)
        said = "1 token" if tokens == 1 else f"{tokens:,} tokens"
        rate = f", {tokens / self.seconds:.1f} tokens/s" if tokens > 1 else ""
        return f"{said}{rate}" + ("; stopped" if self.stopped else "")


def stream(job: Job, show: Callable[[str], None], options: SamplingOptions | None = None) -> Found:
    """Writes one text and shows it as it comes; Ctrl-C ends it between two tokens.

    Args:
        job: What to write.
        show: Is given whole characters.
        options: In place of the job's own.
    """
    begin = time.perf_counter()
    found, text, tokens = Found(), "", []
    finish: FinishReason = "length"
    with stopped_by_ctrl_c() as stop:
        pieces = _pieces(job, options or job.settings.sampling)
        try:
            for piece in pieces:
                if piece.token is not None:
                    tokens.append(piece.token)
                text += piece.text
                show(piece.text)
                finish = piece.finish or finish
                if stop.asked:
                    break
        except KeyboardInterrupt:  # the second Ctrl-C
            pass
    found.seconds = time.perf_counter() - begin
    found.stopped = stop.asked
    found.samples.append(Completion(text, tuple(tokens), finish))
    return found


def _pieces(job: Job, options: SamplingOptions) -> Iterator[TextPiece]:
    return generate_text(
        job.bundle.model,
        job.bundle.tokenizer,
        job.ids,
        max_new_tokens=job.settings.max_new_tokens,
        options=options,
        stop=job.settings.stop,
        slide=job.slide,
        top_logprobs=job.logprobs,
    )


def samples(job: Job, n: int) -> Found:
    """Writes n texts, together where they fit into the context; Ctrl-C keeps those that are done.

    Each has draws of its own; the first is the text that a single one would be.
    """
    ids, settings = job.ids, job.settings
    if n == 1 or len(ids) + settings.max_new_tokens > job.bundle.model.config.context:
        return _one_by_one(job, n)
    request = Request(
        ids,
        settings.max_new_tokens,
        settings.sampling,
        settings.stop,
        (job.bundle.tokenizer.eot_id,),
        job.logprobs,
    )
    begin = time.perf_counter()
    done: dict[int, Completion] = {}
    found = Found()
    try:
        complete(
            job.bundle.model,
            job.bundle.tokenizer,
            samples_of(request, n),
            on_done=done.__setitem__,
        )
    except KeyboardInterrupt:
        found.stopped = True
    found.seconds = time.perf_counter() - begin
    found.samples = [done[number] for number in sorted(done)]
    return found


def _one_by_one(job: Job, n: int) -> Found:
    found = Found()
    for number in range(n):
        one = stream(job, lambda text: None, job.settings.sampling.of_sample(number))
        found.samples += one.samples
        found.seconds += one.seconds
        found.stopped = one.stopped
        if one.stopped:
            break
    return found


def result_of(job: Job, texts: Sequence[Completion]) -> dict[str, Any]:
    """What a program reads: the model, the prompt, and each sample."""
    return {
        "model": str(job.bundle.folder),
        "sha256": job.bundle.sha256,
        "prompt": job.prompt,
        "text": texts[0].text if texts else "",
        "samples": [
            {
                "text": sample.text,
                "tokens": len(sample.tokens),
                "finish_reason": sample.finish,
                **({} if job.logprobs is None else {"logprobs": _logprobs(job, sample)}),
            }
            for sample in texts
        ],
    }


def _logprobs(job: Job, sample: Completion) -> list[dict[str, Any]]:
    """Of each token; with its bytes, for a token may be a part of a character."""

    def named(token: int, logprob: float | None) -> dict[str, Any]:
        content = job.bundle.tokenizer.decode_bytes((token,))
        return {
            "id": token,
            "token": content.decode("utf-8", errors="replace"),
            "bytes": list(content),
            "logprob": logprob,
        }

    def row(output: TokenOutput) -> dict[str, Any]:
        top = [named(token, logprob) for token, logprob in output.top_logprobs]
        return {**named(output.id, output.logprob), "top": top}

    return [row(output) for output in sample.tokens]
