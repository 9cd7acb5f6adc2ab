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
    about = {Path(finding["about"]).name for finding in said["findings"]}
    assert about <= {"run", "tiny", "data-bytes"}


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


def test_a_finetuning_recipe_shows_what_is_learned(fromscratch: Callable, place: Path) -> None:
    """Its conversations are made into examples as `train` would, and looked at."""
    records = [{"prompt": f"Say {i}", "completion": "yes"} for i in range(30)]
    (place / "talk.json").write_text(json.dumps(records))
    words = ["sft-fgpt", "--from", "run", "data.path=talk.json", "chat.loss_on=all",
             "model.context=32", "train.micro_batch=2"]  # fmt: skip
    answer = fromscratch("doctor", *words)
    assert answer.code == 0, answer
    assert "write chat.loss_on=assistant" in answer.out
    plain = answer.out.replace("\n", " ")
    assert "the first example, token by token" in plain
    said = json.loads(fromscratch("doctor", *[w for w in words if "loss" not in w], "--json").out)
    assert not [f for f in said["findings"] if f["id"] == "R50"]
    first, answered = said["example"]
    assert (first["learned"], first["tokens"][0]) == (False, "<|user|>")
    assert answered == {"learned": True, "tokens": ["y", "e", "s", "<|endoftext|>"]}
    (place / "mute.json").write_text('[{"messages": [{"role": "user", "content": "Hm?"}]}]')
    refused = fromscratch("doctor", *words[:3], "data.path=mute.json", "--json")
    assert refused.code == 1
    assert [f["id"] for f in json.loads(refused.out)["findings"]] == ["R51"]
