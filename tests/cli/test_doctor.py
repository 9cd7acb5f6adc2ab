"""`fromscratch doctor`, as a person and as a program see it."""

import json
from collections.abc import Callable
from pathlib import Path


def test_a_recipe_with_two_mistakes(fromscratch: Callable) -> None:
    answer = fromscratch("doctor", "tiny.toml", "optim.clip=0", "sample.every=0", COLUMNS="70")
    assert answer.code == 0, answer
    lines = answer.out.split("\n")
    assert max(map(len, lines)) <= 70
    assert "-> write optim.clip=1" in answer.out
    assert "R47" in answer.out
    assert "warned." in answer.out
    assert "fromscratch doctor --explain" in answer.out.replace("\n", " ")


def test_strict_makes_a_warning_an_error(fromscratch: Callable) -> None:
    assert fromscratch("doctor", "tiny.toml", "optim.clip=0", "--strict").code == 1


def test_what_is_refused_ends_with_one(fromscratch: Callable) -> None:
    answer = fromscratch("doctor", "tiny.toml", "model.n_head=3", "--json")
    assert answer.code == 1
    said = json.loads(answer.out)
    assert said["refused"] is True
    (finding,) = said["findings"]
    assert (finding["id"], finding["severity"], finding["about"]) == ("R18", "refused", "tiny")
    assert "1, 2, 4, 8, 16" in finding["fix"]


def test_a_run_and_its_checkpoint_and_its_data(fromscratch: Callable, place: Path) -> None:
    answer = fromscratch("doctor", "run", "run/checkpoints/latest", "data-bytes", "--json")
    said = json.loads(answer.out)
    assert answer.code == 0, answer
    assert said["what"] == ["run", "run/checkpoints/latest", "data-bytes"]
    assert len(said["checks"]) > 30
    assert {finding["about"] for finding in said["findings"]} <= {"run", "tiny", "data-bytes"}


def test_the_story_of_a_regret(fromscratch: Callable) -> None:
    answer = fromscratch("doctor", "--explain", "r15")
    assert answer.code == 0
    assert answer.out.startswith("R15  Too few tokens")
    assert "enough tokens for the size" in answer.out
    said = json.loads(fromscratch("doctor", "--explain", "R18", "--json").out)
    assert (said["id"], said["verdict"]) == ("R18", "refused")


def test_a_run_begins_with_it(fromscratch: Callable, place: Path) -> None:
    answer = fromscratch("train", "tiny.toml", "optim.clip=0", "train.steps=2", "--run", "warned")
    assert answer.code == 0, answer
    assert "gradients are not clipped" in answer.err
    events = [json.loads(line) for line in (place / "warned/events.jsonl").open()]
    said = [event["message"] for event in events if event["event"] == "doctor"]
    assert any(m.endswith("write optim.clip=1 (R30)") for m in said)
