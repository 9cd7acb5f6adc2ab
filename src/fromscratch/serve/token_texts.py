"""Tokens and their log-probabilities as OpenAI's two routes spell them."""

from __future__ import annotations

from collections.abc import Sequence

from fromscratch.serve.answers import ChatLogprobs, TextLogprobs, TokenLogprob, TopLogprob
from fromscratch.serve.jobs import Placed
from fromscratch.tokenizer.tokenizer import Tokenizer

LEAST = -9999.0
"""OpenAI's number for a token that cannot be: JSON has no infinity."""


class TokenTexts:
    """Spells the tokens of one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._specials = {i: name for name, i in tokenizer.special_ids.items()}

    def chat(self, tokens: Sequence[Placed]) -> ChatLogprobs:
        """In the shape of the chat route: each token's text, with its bytes beside it."""
        return ChatLogprobs(
            content=[
                TokenLogprob(
                    **self._entry(placed.token.id, placed.token.logprob),
                    top_logprobs=[
                        TopLogprob(**self._entry(i, logprob))
                        for i, logprob in placed.token.top_logprobs
                    ],
                )
                for placed in tokens
            ]
        )

    def completion(self, tokens: Sequence[Placed], top: int, begins_at: int) -> TextLogprobs:
        """In the shape of the older route, whose keys are texts: half a character is in bytes.

        Args:
            tokens: In order.
            top: How many others were asked for at each place.
            begins_at: Characters before the model's text: of an echoed prompt.
        """
        return TextLogprobs(
            tokens=[self._key(placed.token.id) for placed in tokens],
            token_logprobs=[_finite(placed.token.logprob) for placed in tokens],
            top_logprobs=[
                {self._key(i): _finite(logprob) for i, logprob in placed.token.top_logprobs}
                for placed in tokens
            ]
            if top
            else None,
            text_offset=[begins_at + placed.offset for placed in tokens],
        )

    def _entry(self, token: int, logprob: float | None) -> dict[str, object]:
        data = self._tokenizer.decode_bytes((token,))
        text = self._specials.get(token) or data.decode("utf-8", "replace")
        return {"token": text, "logprob": _finite(logprob), "bytes": list(data)}

    def _key(self, token: int) -> str:
        if token in self._specials:
            return self._specials[token]
        data = self._tokenizer.decode_bytes((token,))
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def _finite(logprob: float | None) -> float:
    return max(LEAST, logprob) if logprob is not None else LEAST
