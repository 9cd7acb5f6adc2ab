"""Models answer the items of a test file, one model at a time.

In: models as a person names them, items. Out: each model's answers, handed over one by one. What a
model reads is the prompt of the chat template that it was taught (R53), and of Alpaca's if it was
taught none; an answer ends at the template's end of turn, at its next turn of the user, or at the
limit. An answer is a function of weights, item and settings: each item's draws have a seed of their
own, so it does not matter which answers were there before, or are written beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fromscratch.chat.template import Template, template_named
from fromscratch.checkpoint.bundle import ModelBundle, load_bundle
from fromscratch.evaluate.evaluated import evaluated_model, run_of
from fromscratch.evaluate.judge_folder import Answer, AnswerSettings
from fromscratch.evaluate.judge_items import JudgeItem
from fromscratch.evaluate.records import EvaluatedModel
from fromscratch.foundation.errors import UserError
from fromscratch.foundation.hardware import resolve_device
from fromscratch.foundation.seeds import derive_seed
from fromscratch.generate.batch import Completion, Request, answer_request, complete
from fromscratch.generate.engine import generate_text
from fromscratch.generate.sampling import SamplingOptions

WITHOUT_A_TEMPLATE = "alpaca"
"""What a base model is asked in: of all templates, the one that needs no tokens of its own."""


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
    """Answers items, several at a time.

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
    template = answering_template(bundle, settings)
    requests = [_request(bundle, template, item, settings) for item in items]
    fits = {n for n, request in enumerate(requests) if _fits(bundle, request)}
    together = sorted(fits)

    def done(number: int, completion: Completion) -> None:
        item = items[together[number]]
        keep(item, _answer(bundle, template, completion))

    complete(bundle.model, bundle.tokenizer, [requests[n] for n in together], on_done=done)
    for number, item in enumerate(items):
        if number not in fits:
            keep(item, _answer(bundle, template, _sliding(bundle, requests[number])))


def answering_template(bundle: ModelBundle, settings: AnswerSettings) -> Template:
    """The template that a model answers in: the one that is named, its own, or Alpaca's."""
    if settings.template is not None:
        return template_named(settings.template)
    return bundle.template or template_named(WITHOUT_A_TEMPLATE)


def too_long(bundle: ModelBundle, items: Sequence[JudgeItem], settings: AnswerSettings) -> int:
    """How many items do not fit into the model's context together with an answer.

    Their window slides: the model forgets the instruction's beginning while it answers.
    """
    template = answering_template(bundle, settings)
    return sum(not _fits(bundle, _request(bundle, template, item, settings)) for item in items)


def _request(
    bundle: ModelBundle, template: Template, item: JudgeItem, settings: AnswerSettings
) -> Request:
    seed = derive_seed(settings.seed, "judge answer", item.number)
    return answer_request(
        template,
        bundle.tokenizer,
        item.messages,
        max_new_tokens=settings.max_new_tokens,
        options=SamplingOptions(settings.temperature, settings.top_k, settings.top_p, seed),
    )


def _fits(bundle: ModelBundle, request: Request) -> bool:
    return len(request.prompt) + request.max_new_tokens <= bundle.model.config.context


def _sliding(bundle: ModelBundle, request: Request) -> Completion:
    """An answer whose window slides, which is written alone."""
    pieces = list(
        generate_text(
            bundle.model,
            bundle.tokenizer,
            request.prompt,
            max_new_tokens=request.max_new_tokens,
            options=request.options,
            stop=request.stop,
            stop_ids=request.stop_ids,
        )
    )
    finish = pieces[-1].finish
    assert finish is not None
    tokens = tuple(piece.token for piece in pieces if piece.token is not None)
    return Completion("".join(piece.text for piece in pieces), tokens, finish)


def _answer(bundle: ModelBundle, template: Template, completion: Completion) -> Answer:
    ended = "limit" if completion.finish == "length" else "end"
    if completion.finish == "stop":
        written = bundle.tokenizer.decode(token.id for token in completion.tokens)
        if any(stop in written for stop in template.stop_texts):
            ended = "turn"
    return Answer(completion.text.strip(), len(completion.tokens), ended)
