"""A model measured on texts: each by itself and all of them pooled, as records.

In: a model bundle, texts, a protocol. Out: one `EvalRecord` a text, and one for all together where
there are several. A text's windows hold nothing of another text, so its numbers do not depend on
what else is measured.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any

from fromscratch.checkpoint.bundle import ModelBundle
from fromscratch.data.sources import SourceReport
from fromscratch.evaluate.paired import DocumentLog
from fromscratch.evaluate.records import EvalRecord, EvaluatedData, EvaluatedModel, Metric
from fromscratch.evaluate.text_data import EvalText, Fingerprint, token_documents
from fromscratch.evaluate.text_loss import TextLoss, document_losses
from fromscratch.evaluate.text_windows import Protocol
from fromscratch.foundation.errors import UserError
from fromscratch.train.precision import Precision

POOLED = "pooled"


@dataclass(frozen=True)
class EvalOptions:
    """How to measure.

    Attributes:
        protocol: Windows.
        batch_size: Full windows at a time.
        precision: Of the forward pass; the model is on its device.
        limit: Of each text, the first so many documents.
    """

    protocol: Protocol
    batch_size: int
    precision: Precision
    limit: int | None = None


@dataclass
class TextResult:
    """What measuring a model on texts gave.

    Attributes:
        records: One a text, and one for all where there are several.
        report: What was left out of the texts, and remarks.
        n_tokens: Targets computed.
    """

    records: list[EvalRecord] = field(default_factory=list)
    report: SourceReport = field(default_factory=SourceReport)
    n_tokens: int = 0


def evaluate_texts(
    bundle: ModelBundle,
    model: EvaluatedModel,
    texts: list[EvalText],
    options: EvalOptions,
    *,
    log: DocumentLog | None = None,
    watch: Callable[[int, int], None] = lambda passed, n_tokens: None,
) -> TextResult:
    """Measures a model on texts.

    Args:
        bundle: The model, on the precision's device.
        model: What records say of it.
        texts: At least one.
        options: How.
        log: Given what each document cost.
        watch: Told how much of the texts has been read, in the unit of `EvalText.size`, and how
            many targets have been computed.

    Raises:
        UserError: A text is bad or empty, or the model's tokenizer cannot write it; a batch does
            not fit into memory.
    """
    result = TextResult()
    whole, losses = Fingerprint(), []
    passed_before = 0
    began = time.perf_counter()

    def computed(n: int) -> None:
        result.n_tokens += n

    for text in texts:
        start = time.perf_counter()
        fingerprint, loss = Fingerprint(), TextLoss()
        documents = token_documents(
            text,
            bundle.tokenizer,
            result.report,
            [fingerprint, whole],
            limit=options.limit,
            on_passed=lambda passed: watch(passed_before + passed, result.n_tokens),  # noqa: B023
        )
        for document in document_losses(
            bundle.model,
            documents,
            options.protocol,
            eot_id=bundle.tokenizer.eot_id,
            batch_size=options.batch_size,
            precision=options.precision,
            on_targets=computed,
        ):
            loss.add(document)
            if log is not None:
                log.add(document)
        if not loss.n_documents:
            raise UserError(
                f"There is no text in {text.name}.",
                fix="Name a file, a folder or a glob with UTF-8 text, or prepared data.",
            )
        losses.append(loss)
        settings = text.settings() | _settings(options, loss)
        seconds = time.perf_counter() - start
        result.records.append(
            loss_record(model, _data(text.name, fingerprint), loss, settings, seconds)
        )
        passed_before += text.size
    if len(texts) > 1:
        total = reduce(add, losses)
        settings = _settings(options, total) | {"pooled": [text.name for text in texts]}
        data, seconds = _data(POOLED, whole), time.perf_counter() - began
        result.records.append(loss_record(model, data, total, settings, seconds))
    return result


def _settings(options: EvalOptions, loss: TextLoss) -> dict[str, Any]:
    """All that changes the numbers besides the text."""
    protocol = options.protocol
    return {
        "context": protocol.context,
        "stride": protocol.stride,
        "separate": protocol.separate,
        "precision": options.precision.name,
        "device": options.precision.device.type,
        "limit_documents": options.limit,
        "n_tokens": loss.totals.n_targets,
    }


def _data(name: str, fingerprint: Fingerprint) -> EvaluatedData:
    return EvaluatedData(
        name, fingerprint.sha256, n_documents=fingerprint.n_documents, n_bytes=fingerprint.n_bytes
    )


def loss_record(
    model: EvaluatedModel,
    data: EvaluatedData,
    loss: TextLoss,
    settings: dict[str, Any],
    seconds: float,
) -> EvalRecord:
    """Nats per token, perplexity and bits per byte, each with its standard error by document."""
    totals, n = loss.totals, loss.n_documents
    by_token, by_byte = loss.by_token.stderr, loss.by_byte.stderr
    perplexity = totals.perplexity
    bits = _scaled(by_byte, 1 / math.log(2))
    return EvalRecord(
        kind="loss",
        model=model,
        data=data,
        metrics={
            "loss": Metric(totals.loss, by_token, n),
            # d exp(l) = exp(l) dl: the delta method once more.
            "perplexity": Metric(perplexity, _scaled(by_token, perplexity), n),
            "bits_per_byte": Metric(totals.bits_per_byte, bits, n),
        },
        settings=settings,
        seconds=seconds,
    )


def _scaled(stderr: float | None, factor: float) -> float | None:
    return None if stderr is None else stderr * factor
