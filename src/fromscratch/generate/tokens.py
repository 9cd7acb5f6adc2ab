"""Tokens one by one, each with its log-probability where that is asked for.

Log-probabilities are the model's own: of the logits as they come, before bias, penalties and
temperature, so that they say what the model thinks and not how it was asked to choose.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

MOST_LOGPROBS = 20
"""Of the likeliest tokens at each place; as many as OpenAI's API gives."""


@dataclass(frozen=True)
class TokenOutput:
    """A token that was chosen.

    Attributes:
        id: Which.
        logprob: The natural logarithm of its probability; None where nobody asked.
        top_logprobs: The likeliest ids with theirs, the likeliest first.
    """

    id: int
    logprob: float | None = None
    top_logprobs: tuple[tuple[int, float], ...] = ()


def with_logprobs(token: int, logits: Tensor, top: int | None) -> TokenOutput:
    """The output for a token.

    Args:
        token: What was chosen.
        logits: (P,), of the model.
        top: How many of the likeliest to add; None: no log-probabilities at all.
    """
    if top is None:
        return TokenOutput(token)
    logprobs = torch.log_softmax(logits.float(), dim=-1)
    values, ids = logprobs.topk(min(top, len(logprobs)))
    likeliest = zip(ids.tolist(), values.tolist(), strict=True)
    return TokenOutput(token, float(logprobs[token]), tuple(likeliest))
