"""`fromscratch doctor`, as a person and as a program see it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from tests.forking.forks import Answer


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


def found_in(answer: Answer) -> list[tuple[str, str]]:
    return [(f["id"], f["severity"]) for f in json.loads(answer.out)["findings"]]


def test_what_train_would_refuse_of_the_data_is_refused(fromscratch: Callable, place: Path) -> None:
    """Nothing is prepared for it, and nothing else is said of it than `train` says."""
    before = sorted(place.iterdir())
    for change, words in (
        ("data.path=nowhere.txt", "nowhere.txt does not exist"),
        ("data.path=data-bpe-300", 'was prepared with the tokenizer "bpe:300"'),
        ("model.vocab_size=100", "257 ids and the model's vocabulary 100"),
    ):
        told = fromscratch("doctor", "tiny.toml", change, "--json")
        assert told.code == 1, told
        refused = [f for f in json.loads(told.out)["findings"] if f["severity"] == "refused"]
        assert [words in f["what"] for f in refused] == [True]
        train = fromscratch("train", "tiny.toml", change, "--run", "refused")
        assert (train.code, words in train.err.replace("\n", " ")) == (2, True)
    mixture = (place / "tiny.toml").read_text().replace('path = "data-bytes"\n', "")
    source = '[[data.source]]\nname = "n"\npath = "data-bytes"\nmax_epochs = 0.01\n'
    (place / "limited.toml").write_text(mixture.replace("[train]", f"{source}\n[train]"))
    told = fromscratch("doctor", "limited.toml", "train.steps=400", "--json")
    assert ("R15", "refused") in found_in(told)
    assert sorted(place.iterdir()) == sorted([*before, place / "limited.toml"])


def test_a_text_that_train_has_prepared_already_is_found(
    fromscratch: Callable, place: Path
) -> None:
    (place / "raw.txt").write_text("\n\n".join(f"Paragraph {i} says it all." for i in range(90)))
    words = ["tiny.toml", "data.path=raw.txt", "data.documents=paragraph", "data.val_fraction=0.2"]
    first = fromscratch("doctor", *words, "train.steps=3000", "--json")
    assert "the text has 2." in first.out, first
    assert "are gone through about" in first.out
    assert fromscratch("train", *words, "--run", "of-raw").code == 0
    second = fromscratch("doctor", *words, "train.steps=3000", "--json")
    assert 'the text of \\"raw' in second.out
    assert ("R04", "warned") in found_in(second), "so little is held out"
    again = fromscratch("doctor", *words, "--from", "of-raw", "--json")
    assert ("R03", "warned") in found_in(again)
    assert ("R03", "warned") not in found_in(second)


def test_a_run_that_was_killed_and_one_that_was_changed_on_purpose(
    fromscratch: Callable, place: Path
) -> None:
    run = Path(shutil.copytree(place / "run", place / "a killed run", symlinks=True))
    events = (run / "events.jsonl").read_text().splitlines(keepends=True)
    (run / "events.jsonl").write_text("".join(e for e in events if '"finished"' not in e))
    told = fromscratch("doctor", str(run), "--json")
    (killed,) = (f for f in json.loads(told.out)["findings"] if f["id"] == "R42")
    assert "nothing trains it" in killed["what"]
    assert killed["fix"] == f"go on with: fromscratch resume '{run}'"

    checkpoint = (run / "checkpoints/latest").resolve()
    (checkpoint / "model.safetensors").write_bytes(b"cut")
    told = fromscratch("doctor", str(run), "--json")
    (damaged,) = (f for f in json.loads(told.out)["findings"] if f["id"] == "R35")
    assert "model.safetensors has 3 bytes instead of" in damaged["what"]
    (checkpoint / "recipe.toml").write_bytes(b"\xff\xfe")
    assert fromscratch("doctor", str(run)).code == 0

    longer = Path(shutil.copytree(place / "run", place / "gone-on", symlinks=True))
    assert fromscratch("resume", str(longer), "train.steps=40").code == 0
    assert ("R37", "warned") not in found_in(fromscratch("doctor", str(longer), "--json"))


def test_damaged_folders_are_findings_and_slips_are_mistakes(
    fromscratch: Callable, place: Path
) -> None:
    (place / "no-manifest").mkdir()
    (place / "no-manifest/manifest.json").write_text('{"tokenizer_fingerprint": ')
    assert fromscratch("doctor", "no-manifest").code == 1
    for words in (
        ["doctor", "tiny.toml", "nosuch.key=1"],
        ["doctor", "tiny.toml", "foo"],
        ["doctor", "text/1.txt"],
        ["doctor", "sft-fgpt"],
        ["doctor", "."],
    ):
        answer = fromscratch(*words)
        assert (answer.code, answer.out) == (2, ""), answer
    assert "fromscratch doctor sft-fgpt --from MODEL" in fromscratch("doctor", "sft-fgpt").err
    assert "It has runs in it: fromscratch doctor" in fromscratch("doctor", ".").err
    assert "data.path=text/1.txt" in fromscratch("doctor", "text/1.txt").err


def test_examples_that_are_damaged(fromscratch: Callable, place: Path) -> None:
    records = [{"prompt": f"Say {i}", "completion": "no"} for i in range(30)]
    (place / "cut.json").write_text(json.dumps(records))
    made = fromscratch("doctor", "sft-fgpt", "--from", "run", "data.path=cut.json",
                       "model.context=32", "train.micro_batch=2", "--json")  # fmt: skip
    assert made.code == 0, made
    (folder,) = (place / "prepared").glob("cut-*")
    (folder / "ids.npy").write_bytes((folder / "ids.npy").read_bytes()[:40])
    answer = fromscratch("doctor", str(folder), "--json")
    assert answer.code == 1
    assert [severity for _, severity in found_in(answer)] == ["refused"]
