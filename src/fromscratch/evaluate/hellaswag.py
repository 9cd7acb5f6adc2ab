"""HellaSwag (Zellers et al. 2019): which of four endings does the model find most likely?

In: items and a tokenizer. Out: what `multiple_choice` answers, and the record of an evaluation.

Two ways to make text of an item are in use, and their scores do not compare:

- `completion`: the context as it stands, each ending after a space, encoded for themselves;
  `acc_norm` is by the log-probability per token. As in karpathy/build-nanogpt and llm.c, whose
  authors published 0.2955 for GPT-2 124M.
- `harness`: as in lm-evaluation-harness 0.4 (tasks/hellaswag): the activity's name before the
  context, WikiHow's bracketed remains taken out, context and ending encoded together; `acc_norm` is
  by the log-probability per character of the ending.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from fromscratch.evaluate.hellaswag_items import HellaSwagItem, fingerprint
from fromscratch.evaluate.hellaswag_references import ALL_ITEMS, Style, references
from fromscratch.evaluate.multiple_choice import (
    ChoiceItem,
    Tally,
    answer_items,
    encode_pairs,
    encode_texts,
    stderr_of_share,
    tally_of,
)
from fromscratch.evaluate.passages import Passage
from fromscratch.evaluate.records import EvalRecord, EvaluatedData, EvaluatedModel, Metric
from fromscratch.model.gpt import GPT
from fromscratch.tokenizer.tokenizer import Tokenizer

_BRACKETED = re.compile(r"\[.*?\]")


@dataclass(frozen=True)
class HellaSwag:
    """Items, ready for a model.

    Attributes:
        items: As read.
        style: How they become text.
        tokenizer: The model's.
        source: The file or hub name they are from.
        n_in_source: How many that has.
    """

    items: Sequence[HellaSwagItem]
    style: Style
    tokenizer: Tokenizer
    source: str
    n_in_source: int

    @cached_property
    def encoded(self) -> list[ChoiceItem]:
        """The items as token ids.

        Raises:
            UserError: A character that the tokenizer does not have.
        """
        make = _harness if self.style == "harness" else _completion
        return make(self.items, self.tokenizer)

    @cached_property
    def sha256(self) -> str:
        """Of the items."""
        return fingerprint(self.items)

    def describe(self) -> dict[str, object]:
        """For a run's events: what was asked, so that two runs' scores can be compared."""
        return {
            "source": self.source,
            "items": len(self.items),
            "sha256": self.sha256,
            "style": self.style,
        }


def hellaswag_record(
    bundle_model: GPT,
    model: EvaluatedModel,
    data: HellaSwag,
    *,
    batch_tokens: int,
    on_passages: Callable[[int], None] = lambda n: None,
) -> EvalRecord:
    """Evaluates a model and says how it did, beside what is published.

    Args:
        bundle_model: The network.
        model: Which weights it has.
        data: The items.
        batch_tokens: Positions in memory at a time.
        on_passages: Told how many more endings have been scored; each item has four.
    """
    begin = time.perf_counter()
    answers = answer_items(
        bundle_model, data.encoded, batch_tokens=batch_tokens, on_passages=on_passages
    )
    result = tally_of(answers)
    return EvalRecord(
        kind="multiple_choice",
        model=model,
        data=EvaluatedData(f"hellaswag ({data.style})", data.sha256, n_documents=result.n),
        metrics=_metrics(result, data.style),
        settings={
            "style": data.style,
            "shots": 0,
            "source": data.source,
            "items": _which(data),
            "context": bundle_model.config.context,
        },
        seconds=time.perf_counter() - begin,
    )


def _metrics(result: Tally, style: Style) -> dict[str, Metric]:
    shares = {"acc": result.acc, "acc_norm": result.acc_norm}
    return {
        name: Metric(
            value=share,
            stderr=stderr_of_share(share, result.n),
            n=result.n,
            reference=references(style, name, result.n),
        )
        for name, share in shares.items()
    }


def _which(data: HellaSwag) -> str:
    n, of = len(data.items), data.n_in_source
    which = f"all {of:,}" if n == of else f"{n:,} of {of:,}, the first of shuffle 0"
    if n == ALL_ITEMS:
        return which
    return f"{which}; the references are for all {ALL_ITEMS:,} of the validation set"


# --- items as text --------------------------------------------------------------------------------


def harness_text(item: HellaSwagItem) -> tuple[str, list[str]]:
    """The question and its answers in the style `harness`, without the space between them."""
    context = f"{item.activity_label}: {item.ctx_a} {item.ctx_b.capitalize()}"
    return _clean(context), [_clean(ending) for ending in item.endings]


def _clean(text: str) -> str:
    text = text.strip().replace(" [title]", ". ")
    return _BRACKETED.sub("", text).replace("  ", " ")


def _harness(items: Sequence[HellaSwagItem], tokenizer: Tokenizer) -> list[ChoiceItem]:
    texts = [harness_text(item) for item in items]
    pairs = [(context, f" {answer}") for context, answers in texts for answer in answers]
    passages = iter(encode_pairs(tokenizer, pairs))
    return [
        ChoiceItem(
            passages=tuple(next(passages) for _ in answers),
            lengths=tuple(float(len(answer)) for answer in answers),
            gold=item.label,
        )
        for item, (_, answers) in zip(items, texts, strict=True)
    ]


def _completion(items: Sequence[HellaSwagItem], tokenizer: Tokenizer) -> list[ChoiceItem]:
    texts = [text for item in items for text in (item.ctx, *(f" {e}" for e in item.endings))]
    encoded = iter(encode_texts(tokenizer, texts))
    found = []
    for item in items:
        # Without a context (there is none such in the set) the first ending starts a document.
        context = next(encoded) or [tokenizer.eot_id]
        endings = [next(encoded) for _ in item.endings]
        found.append(
            ChoiceItem(
                passages=tuple(Passage([*context, *ids], len(context)) for ids in endings),
                lengths=tuple(float(len(ids)) for ids in endings),
                gold=item.label,
            )
        )
    return found
