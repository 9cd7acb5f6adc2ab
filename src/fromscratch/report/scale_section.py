"""Predicted against achieved: what a scaling law expected of the run, and where the run ended.

In: RUN/prediction.json and the run's record. Out: a section, empty where nothing was predicted.
"""

from __future__ import annotations

import base64
from pathlib import Path

from fromscratch.foundation.names import RunPaths
from fromscratch.report.facts import Facts
from fromscratch.report.markup import Html, tag
from fromscratch.report.numerals import count, percent, significant
from fromscratch.runs.scale_prediction import RunPrediction, read_prediction


def scale_section(run: Path, facts: Facts) -> Html:
    """The comparison for one run; the empty string where nothing was predicted of it."""
    prediction = read_prediction(RunPaths(run).prediction)
    if prediction is None:
        return Html()
    achieved = _achieved(facts)
    # matplotlib takes longer to import than the rest of the page takes to make.
    from fromscratch.report.scale_picture import prediction_picture

    said = describe(prediction, achieved)
    drawn = base64.b64encode(prediction_picture(prediction, achieved)).decode("ascii")
    image = tag("img", src=f"data:image/png;base64,{drawn}", alt=said, style="max-width:100%")
    law = prediction.law
    how = (
        f"By a law fitted to {count(len(prediction.runs))} small runs ({prediction.ladder}): "
        "loss = "
        f"{significant(law.e)} + {significant(law.a)} / N^{law.alpha:.3f} + "
        f"{significant(law.b)} / D^{law.beta:.3f}, with N = {count(prediction.parameters)} "
        f"parameters and D = {count(prediction.tokens)} tokens, which is "
        f"{significant(prediction.reach, 3)} times the arithmetic of the largest of them."
    )
    otherwise = [tag("li", text) for text in prediction.differences]
    return tag(
        "section",
        tag("h2", "Predicted and achieved"),
        tag("p", said),
        _table(prediction, achieved),
        tag("figure", image, style="margin:0"),
        tag("p", how, class_="note"),
        *(
            [tag("p", "Otherwise than the small runs:", class_="note"), tag("ul", *otherwise)]
            if otherwise
            else []
        ),
        id="scale",
    )


def describe(prediction: RunPrediction, achieved: float | None) -> str:
    """What the comparison comes to, in words."""
    expected = prediction.expected
    between = f"{significant(expected.low)} to {significant(expected.high)}"
    text = (
        f"Before the run began, a loss of {significant(expected.loss)} nats per token was "
        f"predicted, nine times of ten within {between}."
    )
    if achieved is None:
        return f"{text} The run has not come to its end yet, and only its end compares."
    off = abs(achieved / expected.loss - 1)
    inside = expected.low <= achieved <= expected.high
    better = "lower" if achieved < expected.loss else "higher"
    where = "within the interval" if inside else "outside the interval"
    return (
        f"{text} It ended at {significant(achieved)}: {percent(off)} {better} than predicted, "
        f"{where}."
    )


def _achieved(facts: Facts) -> float | None:
    """The last held-out loss of a run that came to its end."""
    last = facts.last
    return last.loss if facts.state == "finished" and last and last.step == facts.step else None


def _table(prediction: RunPrediction, achieved: float | None) -> Html:
    expected, ratio = prediction.expected, prediction.bits_per_nat
    head = tag(
        "tr",
        *(tag("th", h, scope="col") for h in ("Held-out", "Predicted", "Interval", "Achieved")),
    )
    body = [
        tag(
            "tr",
            tag("th", name, scope="row"),
            tag("td", significant(expected.loss * by)),
            tag("td", f"{significant(expected.low * by)} to {significant(expected.high * by)}"),
            tag("td", "not yet" if achieved is None else significant(achieved * by)),
        )
        for name, by in (("nats per token", 1.0), ("bits per byte", ratio))
    ]
    return tag(
        "div", tag("table", tag("thead", head), tag("tbody", *body)), class_="scroll numbers"
    )
