"""Models answer the items of a test file, one model at a time.

In: models as a person names them, items. Out: each model's answers, handed over one by one. What a
model reads is the chat template's prompt (R53); an answer ends at end-of-text, at the template's
next turn of the user, or at the limit. An answer is a function of weights, item and settings: each
item's draws have a seed of their own, so it does not matter which answers were there before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fromscratch.chat.rendering import prompt_ids, stop_ids
from fromscratch.chat.template import template_named
from fromscratch.checkpoint.bundle import ModelBundle, load_bundle
from fromscratch.evaluate.evaluated import evaluated_model, run_of
from fromscratch.evaluate.judge_folder import Answer, AnswerSettings
from fromscratch.evaluate.judge_items import JudgeItem
from fromscratch.evaluate.records import EvaluatedModel
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.hardware import resolve_device
from fromscratch.foundation.seeds import derive_seed
from fromscratch.generate.engine import generate_ids
from fromscratch.generate.sampling import SamplingOptions


@dataclass(frozen=True)
class Contestant:
    """A model that is judged.

    Attributes:
        model: Which weights; its name is as it was typed.
        run: The run that it is a checkpoint of; None for any other model.
    """

    model: EvaluatedModel
    run: Path | None

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def key(self) -> str:
        return self.model.sha256


def open_contestants(names: Sequence[str]) -> tuple[list[Contestant], ModelBundle | None]:
    """Reads each model once, to know which weights it has.

    Returns:
        The contestants; and where there is only one, its model, which need not be read again. Of
        several, one at a time is in memory.

    Raises:
        UserError: One cannot be read, or two are the same weights.
    """
    contestants: list[Contestant] = []
    for name in names:
        bundle = load_bundle(name)
        model = evaluated_model(name, bundle)
        for other in contestants:
            if other.key == model.sha256:
                raise UserError(
                    f"{other.name} and {name} are the same weights.", fix="Name each model once."
                )
        contestants.append(Contestant(model, run_of(name)))
        if len(names) == 1:
            return contestants, bundle
        del bundle
    return contestants, None


def answer_items(
    bundle: ModelBundle,
    items: Sequence[JudgeItem],
    settings: AnswerSettings,
    keep: Callable[[JudgeItem, Answer], None],
    *,
    device: str = "auto",
) -> None:
    """Answers items in their order.

    Args:
        bundle: The model; moved to the device.
        items: Those to answer.
        settings: How.
        keep: Is given each answer as soon as it is there.
        device: As for `resolve_device`.

    Raises:
        UserError: The device is not there, or the tokenizer cannot write an item.
    """
    bundle.model.to(resolve_device(device))
    for item in items:
        keep(item, answer_of(bundle, item, settings))


def answer_of(bundle: ModelBundle, item: JudgeItem, settings: AnswerSettings) -> Answer:
    """One answer."""
    template = template_named(settings.template)
    prompt = prompt_ids(template, bundle.tokenizer, item.messages)
    options = SamplingOptions(
        settings.temperature,
        settings.top_k,
        settings.top_p,
        derive_seed(settings.seed, "judge answer", item.number),
    )
    new = generate_ids(
        bundle.model,
        prompt,
        max_new_tokens=settings.max_new_tokens,
        options=options,
        stop_ids=stop_ids(template, bundle.tokenizer),
    )
    tokens = 0

    def counted() -> Iterator[int]:
        nonlocal tokens
        for token in new:
            tokens += 1
            yield token

    text = ""
    for piece in bundle.tokenizer.decode_stream(counted()):
        text += piece
        for next_turn in template.stop_texts:
            if next_turn in text:
                return Answer(text.partition(next_turn)[0].strip(), tokens, "turn")
    ended = "limit" if tokens == settings.max_new_tokens else "end"
    return Answer(text.strip(), tokens, ended)


def too_long(bundle: ModelBundle, items: Sequence[JudgeItem], settings: AnswerSettings) -> int:
    """How many items do not fit into the model's context together with an answer.

    Their window slides: the model forgets the instruction's beginning while it answers.
    """
    template = template_named(settings.template)
    room = bundle.model.config.context - settings.max_new_tokens
    return sum(len(prompt_ids(template, bundle.tokenizer, i.messages)) > room for i in items)
