"""Regrets about judging: numbers that do not compare, scores that are not the model's."""

from __future__ import annotations

from fromscratch.doctor.regret import Regret

JUDGING: tuple[Regret, ...] = (
    Regret(
        "R44",
        "Losses compared across tokenizers or texts",
        "warned",
        "A loss of 3.1 under one tokenizer is held against 3.4 under another, or on another text. "
        "Neither says which model is better.",
        "Bits per byte stand beside every validation loss. `eval` and `report` of several models "
        "say where tokenizers or texts differ, and then judge by bits per byte or not at all.",
    ),
    Regret(
        "R45",
        "A judge that scores the reference, and drops what it cannot read",
        "impossible",
        "The answer key is shown as if the model had written it, and replies without a number "
        "leave the mean. The worst answers are the ones that are missing.",
        "In `judge` the reference is called so and scored on a line of its own. Every reply that "
        "could not be read is counted and shown. Several models are judged in one pass, in random "
        "order.",
    ),
    Regret(
        "R46",
        "A test that always loads another checkpoint",
        "impossible",
        "The function takes a path and ignores it. Every result of the month is that of one and "
        "the same file.",
        "What `eval`, `judge` and `generate --json` print names the sha256 of the weights that "
        "were used.",
    ),
    Regret(
        "R47",
        "Samples at the end only",
        "impossible",
        "The first text is looked at when the run is over. That it repeated itself since noon "
        "would have been seen at noon.",
        "Every sample.every steps the same prompts are continued with the same seed, and kept in "
        "samples.jsonl with their step. They come at the start and the end, too.",
    ),
    Regret(
        "R48",
        "strict=False",
        "refused",
        "Names do not match, half of the weights stay random, and nobody is told. The model is "
        "merely worse than expected.",
        "A tensor that is missing, left over or of another shape is an error that names it, in "
        "every way to load a model.",
    ),
)
