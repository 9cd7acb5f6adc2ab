"""A model of ours as lm-evaluation-harness sees one.

In: the harness's requests, as text. Out: its answers. Always true: the same as the harness's own
Hugging Face backend gives for the same weights (`lm_eval.models.huggingface`), but for rounding:
a context that is too long loses its beginning, a text begins after end-of-text, generation stops
where the task says.

One thing differs on purpose: the name of a special token inside a text is text (R09).

This module imports lm_eval, and is itself imported only where that is installed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import (
    handle_stop_sequences,
    normalize_gen_kwargs,
    postprocess_generated_text,
)
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from fromscratch.checkpoint.bundle import ModelBundle
from fromscratch.evaluate.multiple_choice import encode_pairs
from fromscratch.evaluate.passages import Passage, score_passages
from fromscratch.foundation.errors import UserError
from fromscratch.generate.batch import generate_batch
from fromscratch.generate.sampling import SamplingOptions
from fromscratch.tokenizer.tokenizer import END_OF_TEXT

_NEW_TOKENS = 256
"""Where a task does not say: the harness's own default."""

_SPREAD = 16
"""Prompts of one batch differ in length by no more than this: the rest is fed one by one."""


class HarnessModel(TemplateLM):  # type: ignore[misc]
    """The harness's interface over a bundle.

    Args:
        bundle: The model.
        batch_tokens: Positions in memory at a time.
        report: Told what is under way, how much of it is done, and of how much.
    """

    def __init__(
        self,
        bundle: ModelBundle,
        *,
        batch_tokens: int,
        report: Callable[[str, int, int], None] = lambda stage, done, total: None,
    ) -> None:
        super().__init__()
        self._model = bundle.model
        self._own = bundle.tokenizer
        self._batch_tokens = batch_tokens
        self._report = report

    @property
    def eot_token_id(self) -> int:
        """What ends a text, and what stands before one."""
        return self._own.eot_id

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """Ids of a text; special tokens are never added."""
        return self._own.encode(string)

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Log-probability of a continuation after a context, and whether it is the greedy one."""
        pairs = [request.args for request in requests]
        passages = encode_pairs(self._own, pairs)
        return self._answers(pairs, passages)

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        passages = [Passage([*before, *after], len(before)) for _, before, after in requests]
        return self._answers([request[0] for request in requests], passages)

    def _answers(
        self, keys: Sequence[tuple[str, str]], passages: Sequence[Passage]
    ) -> list[tuple[float, bool]]:
        """Scores; requests with the same context are one group."""
        numbers: dict[tuple[int, ...], list[int]] = {}
        for number, passage in enumerate(passages):
            numbers.setdefault(tuple(passage.ids[: passage.start]), []).append(number)
        scores = score_passages(
            self._model,
            [[passages[number] for number in group] for group in numbers.values()],
            batch_tokens=self._batch_tokens,
            greedy=True,
            on_passages=self._counter("log-probabilities", len(passages)),
        )
        answers: list[tuple[float, bool]] = [(math.nan, False)] * len(passages)
        for group, of_group in zip(numbers.values(), scores, strict=True):
            for number, score in zip(group, of_group, strict=True):
                answers[number] = (score.logprob, score.greedy)
                self.cache_hook.add_partial("loglikelihood", keys[number], answers[number])
        return answers

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Log-probability of whole texts, in windows that overlap as little as they can."""
        groups = []
        for request in requests:
            (text,) = request.args
            cut = get_rolling_token_windows(
                token_list=self.tok_encode(text),
                prefix_token=self.prefix_token_id,
                max_seq_len=self._model.config.context,
                context_len=1,
            )
            pairs = map(make_disjoint_window, cut)
            groups.append([Passage([*before, *after], len(before)) for before, after in pairs])
        scores = score_passages(
            self._model,
            groups,
            batch_tokens=self._batch_tokens,
            on_passages=self._counter("windows", sum(map(len, groups))),
        )
        sums = [math.fsum(score.logprob for score in of_one) for of_one in scores]
        for request, total in zip(requests, sums, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return sums

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Continuations up to a stop sequence, end-of-text, or a number of tokens."""
        count = self._counter("texts", len(requests))
        texts: list[str] = [""] * len(requests)
        kinds: dict[str, list[int]] = {}
        for number, request in enumerate(requests):
            kinds.setdefault(repr(request.args[1]), []).append(number)
        for numbers in kinds.values():
            kwargs = normalize_gen_kwargs(requests[numbers[0]].args[1], _NEW_TOKENS)
            stops = handle_stop_sequences(kwargs.pop("until", None), eos=END_OF_TEXT)
            new = int(kwargs.pop("max_gen_toks"))
            options = _sampling(kwargs)
            prompts = [self._prompt(requests[number].args[0], new) for number in numbers]
            for batch in self._alike([len(p) for p in prompts], new):
                continued = self._continue([prompts[i] for i in batch], new, options, stops)
                for i, text in zip(batch, continued, strict=True):
                    texts[numbers[i]] = text
                    args = requests[numbers[i]].args
                    self.cache_hook.add_partial("generate_until", args, text)
                count(len(batch))
        return texts

    def _counter(self, stage: str, total: int) -> Callable[[int], None]:
        done = 0

        def count(n: int) -> None:
            nonlocal done
            done += n
            self._report(stage, done, total)

        return count

    def _prompt(self, text: str, new: int) -> list[int]:
        """The end of a prompt that leaves room for what is new."""
        room = self._model.config.context - new
        if room < 1:
            raise UserError(
                f"The task asks for {new} new tokens, and the model's context is "
                f"{self._model.config.context}.",
                fix="Leave this task out, or set max_gen_toks in a task of your own.",
            )
        return self.tok_encode(text)[-room:] or [self.eot_token_id]

    def _alike(self, lengths: Sequence[int], new: int) -> list[list[int]]:
        """Prompts of like length, as many as may be in memory, the longest first."""
        batches: list[list[int]] = []
        for i in sorted(range(len(lengths)), key=lambda i: lengths[i], reverse=True):
            longest = lengths[batches[-1][0]] if batches else 0
            full = batches and (len(batches[-1]) + 1) * (longest + new) > self._batch_tokens
            if not batches or full or longest - lengths[i] > _SPREAD:
                batches.append([])
            batches[-1].append(i)
        return batches

    def _continue(
        self, prompts: list[list[int]], new: int, options: SamplingOptions, stops: list[str]
    ) -> list[str]:
        def is_done(number: int, ids: list[int]) -> bool:
            if ids[-1] == self.eot_token_id:
                return True
            text = self._own.decode(ids)
            return any(stop in text for stop in stops if stop)

        continued = generate_batch(
            self._model, prompts, max_new_tokens=new, options=options, is_done=is_done
        )
        cut: list[str] = []
        for ids in continued:
            text = self._own.decode(ids)  # end-of-text has no characters
            cut.append(postprocess_generated_text(text, stop=stops, think_end_token=None))
        return cut


def _sampling(kwargs: dict[str, Any]) -> SamplingOptions:
    """How to choose tokens, in the words of transformers' `generate`.

    Raises:
        UserError: Something that is not done here, such as beam search.
    """
    samples = bool(kwargs.pop("do_sample", False))
    temperature = float(kwargs.pop("temperature", 1.0 if samples else 0.0) or 0.0)
    top_k, top_p = int(kwargs.pop("top_k", 50) or 0), float(kwargs.pop("top_p", 1.0) or 1.0)
    plain = {"num_beams": 1, "use_cache": True, "repetition_penalty": 1.0}
    strange = sorted(key for key, value in kwargs.items() if plain.get(key, ...) != value)
    if strange:
        raise UserError(
            f"The task asks for {', '.join(strange)} in generation, which is not done here.",
            fix="Leave this task out: its scores would not be those of its authors.",
        )
    return SamplingOptions(temperature if samples else 0.0, top_k, top_p)
