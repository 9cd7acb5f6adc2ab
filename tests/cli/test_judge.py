"""`judge` from the command line to its files, against a server that speaks the protocol."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fromscratch.checkpoint.bundle import save_model
from fromscratch.checkpoint.store import CheckpointStore
from fromscratch.evaluate.records import read_records
from fromscratch.foundation.files import sha256_of_file
from fromscratch.tokenizer.build import bytes_tokenizer
from tests.end_to_end.command import Answer, call, start
from tests.evaluate.judge_server import KEY, JudgeServer, Trouble, answers_in, error
from tests.evaluate.scripted_model import scripted

N = 12
PROMPT = (
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request.\n\n### Instruction:\nNumber 00?\n\n### Response:\n"
)
SCORES = {"good": 80.0, "poor": 20.0}


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A test set; a run whose model says "good"; a model folder that says "poor"."""
    root = tmp_path_factory.mktemp("material")
    rows = [
        {"instruction": f"Number {n:02d}?", "input": "", "output": f"reference {n:02d}"}
        for n in range(N)
    ]
    (root / "test.json").write_text(json.dumps(rows))
    good, poor = scripted((len(PROMPT), "good")), scripted((len(PROMPT), "poor"), noise=0.5)

    def write(folder: Path) -> None:
        save_model(folder, good, bytes_tokenizer())
        (folder / "state.json").write_text('{"step": 7, "tokens": 700}')

    (root / "runs/good").mkdir(parents=True)
    (root / "runs/good/recipe.toml").write_text('name = "good"\n')
    CheckpointStore(root / "runs/good/checkpoints").save(7, write, best=True)
    (root / "poor").mkdir()
    save_model(root / "poor", poor, bytes_tokenizer())
    return root


@pytest.fixture
def place(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(material, tmp_path, dirs_exist_ok=True, symlinks=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    return tmp_path


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with JudgeServer(lambda text: SCORES.get(text, 95.0)) as server:
        yield server


def judge(server: JudgeServer, *more: str, models: tuple[str, ...] = ("runs/good", "poor")):
    """The verb on both models."""
    return call(*words(server, *more, models=models))


def words(server: JudgeServer, *more: str, models: tuple[str, ...] = ("runs/good", "poor")):
    asked = ("--test", "test.json", "--judge", server.url, "--model", "strict-judge")
    return ("judge", *models, *asked, "--max-new-tokens", "6", "--device", "cpu", *more)


def result(folder: str = "out") -> dict:
    return json.loads(Path(folder, "judge.json").read_text())


def numbers_asked(server: JudgeServer) -> list[str]:
    return [answers_in(prompt)["reference"] for prompt in server.prompts]


ALL = [f"reference {n:02d}" for n in range(N)]


def test_two_models_are_judged_together(place: Path, server: JudgeServer):
    answer = judge(server)
    assert answer.code == 0, answer.err
    assert "12 requests" in answer.err
    (folder,) = place.glob("judge-*")
    for line in (
        r"runs/good 80.0 80.0 to 80.0 12 of 12",
        r"poor 20.0 20.0 to 20.0 12 of 12",
        r"reference 95.0 95.0 to 95.0 12 of 12",
        r"runs/good - poor +60.0 +60.0 to +60.0 12 0 0",
        f"judge.json: {folder.name}/judge.json",
    ):
        said = " ".join(answer.out.split()).replace("replies: ", "replies: judge.json: ")
        assert line in said, answer.out

    assert sorted(numbers_asked(server)) == ALL
    for prompt in server.prompts:
        assert sorted(answers_in(prompt)) == ["answer_1", "answer_2", "reference"]
        assert "runs/good" not in prompt, "nobody is named"
    firsts = [next(iter(answers_in(p).values())).split()[0] for p in server.prompts]
    assert set(firsts) == {"good", "poor", "reference"}, "each stands first somewhere"

    kept = result(folder.name)
    assert [item["item"] for item in kept["items"]] == list(range(N))
    third = kept["items"][3]
    assert third["instruction"] == "Number 03?"
    assert third["output"] == "reference 03"
    assert third["responses"] == {"runs/good": "good", "poor": "poor"}
    assert third["scores"] == {"runs/good": 80, "poor": 20}
    assert third["reference_score"] == 95
    assert sorted(third["shown_in_order"]) == ["poor", "reference", "runs/good"]

    (record,) = read_records(place / "runs/good/evals.jsonl")
    weights = place / "runs/good/checkpoints/step-00000007/model.safetensors"
    assert (record.kind, record.model.step, record.model.tokens) == ("judge", 7, 700)
    assert record.model.sha256 == sha256_of_file(weights)
    assert record.metrics["score"].value == 80
    assert record.metrics["score"].n == N
    assert record.metrics["score"].reference == {"poor": 20, "reference": 95}
    assert record.settings["judge"] == "strict-judge"
    assert record.settings["unparsed"] == 0
    assert (record.data.name, record.data.n_documents) == ("test.json", N)

    # Given once more, in another order, the same command has nothing to do.
    again = judge(server, "--json", models=("poor", "runs/good/checkpoints/best"))
    assert again.code == 0, again.err
    assert len(server.asked) == N
    assert [m["mean"]["value"] for m in json.loads(again.out)["models"]] == [20, 80]
    assert len(list(read_records(place / "runs/good/evals.jsonl"))) == 1


def test_a_run_keeps_its_own_judgement_and_more_items_are_added(place: Path, server: JudgeServer):
    assert judge(server, "--limit", "3", models=("runs/good",)).code == 0
    (folder,) = (place / "runs/good/judge").iterdir()
    assert folder.name.startswith("test-")
    assert sorted(numbers_asked(server)) == ALL[:3]
    with open(folder / "answers.jsonl", "a") as handle:
        handle.write('{"item": 3, "model": "x", "answ')  # as a kill leaves it
    assert judge(server, models=("runs/good",)).code == 0
    assert sorted(numbers_asked(server)) == ALL
    rows = [json.loads(line) for line in (folder / "answers.jsonl").open() if line.endswith("}\n")]
    assert [row["item"] for row in rows] == list(range(N)), "nothing is answered twice"
    counts = [r.metrics["score"].n for r in read_records(place / "runs/good/evals.jsonl")]
    assert counts == [3, N]


def test_what_cannot_be_read_is_counted_and_shown(place: Path, server: JudgeServer):
    server.troubles = [
        Trouble(content="I would rather not."),
        Trouble(content='Well: ```json\n{"reference": 95, "answer_1": 50, "answer_2": 50}\n```'),
        Trouble(content='{"reference": 95, "answer_1": 1000, "answer_2": 50}'),
        Trouble(content='{"reference": 95}'),
        error(400, f"too long for {KEY}"),
        error(400, f"too long for {KEY}"),
        error(400, f"too long for {KEY}"),
    ]
    answer = judge(server, "--out", "out", "--concurrency", "1")
    assert answer.code == 0, answer.err
    results = result()["results"]
    by_name = {m["name"]: m for m in results["models"]}
    assert sum(m["unparsed"] for m in by_name.values()) == 2 + 1 + 2 + 2
    for name, model in by_name.items():
        scored = [i["scores"].get(name) for i in result()["items"]]
        read = [s for s in scored if s is not None]
        assert model["asked"] == N
        assert model["unparsed"] == N - len(read)
        assert model["mean"]["value"] == pytest.approx(sum(read) / len(read))
        assert model["bounds"] == pytest.approx(
            [sum(read) / N, (sum(read) + 100 * model["unparsed"]) / N]
        )
        assert f"{name}: {model['unparsed']} of 12 scores could not be read" in answer.err
    assert results["reference"]["unparsed"] == 2
    assert results["replies_unparsed"] == 4
    assert "the first: I would rather not." in answer.err
    first = result()["items"][0]
    assert first["reply"] == "I would rather not."
    assert first["unparsed"]["reference"] == "the reply has no score for it"
    assert result()["items"][4]["refusal"] == "HTTP 400: too long for ***"

    # What was refused is open; what was unreadable is asked about again on request only.
    before = len(server.asked)
    assert judge(server, "--out", "out").code == 0
    assert numbers_asked(server)[before:] == ["reference 04"]
    assert judge(server, "--out", "out", "--retry-unparsed").code == 0
    assert sorted(numbers_asked(server)[before + 1 :]) == [ALL[0], ALL[2], ALL[3]]
    assert result()["results"]["replies_unparsed"] == 0


def test_a_judge_that_never_says_a_score_is_given_up(place: Path, server: JudgeServer):
    server.troubles = [Trouble(content="Hm.")] * 99
    answer = judge(server, "--out", "out", "--concurrency", "1")
    assert answer.code == 2
    assert "first 10 replies has a score in it. The last: Hm." in answer.err
    assert len(server.asked) == 10


def test_results_do_not_depend_on_the_order_of_replies(place: Path, server: JudgeServer):
    assert judge(server, "--out", "one", "--concurrency", "1").code == 0
    late = threading.Event()
    server.troubles = [Trouble(until=late), *[Trouble()] * 8, Trouble(then=late.set)]
    assert judge(server, "--out", "four", "--concurrency", "4").code == 0
    assert (place / "one/judge.json").read_text() == (place / "four/judge.json").read_text()
    order = [json.loads(line)["item"] for line in (place / "four/scores.jsonl").open()]
    assert order != sorted(order), "the first reply did come late"


@pytest.mark.slow
def test_a_kill_in_the_middle_loses_the_request_in_flight_and_no_more(
    place: Path, server: JudgeServer
):
    never = threading.Event()
    server.troubles = [Trouble()] * 4 + [Trouble(until=never)]
    process = start(*words(server, "--out", "out", "--concurrency", "1"), cwd=place)
    deadline = time.monotonic() + 120
    while len(server.asked) < 5 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    never.set()
    assert numbers_asked(server) == ALL[:5]
    assert judge(server, "--out", "out", "--concurrency", "1").code == 0
    assert numbers_asked(server) == ALL[:5] + ALL[4:]
    assert len((place / "out/answers.jsonl").read_text().splitlines()) == 2 * N
    assert result()["results"]["models"][0]["mean"]["value"] == 80


def test_ctrl_c_says_where_it_goes_on(place: Path, server: JudgeServer):
    never = threading.Event()
    interrupt = Trouble(until=never, then=lambda: os.kill(os.getpid(), signal.SIGINT))
    server.troubles = [Trouble(), Trouble(), interrupt]
    answer = judge(server, "--out", "out", "--concurrency", "1")
    never.set()
    assert answer.code == 130
    assert "Interrupted; the same command goes on with what is in out." in answer.err
    assert judge(server, "--out", "out").code == 0
    assert sorted(numbers_asked(server)[3:]) == ALL[2:]


def test_a_judge_that_goes_away_leaves_what_there_is(place: Path, server: JudgeServer):
    server.troubles = [Trouble(), Trouble(), *[error(503, "gone")] * 9]
    answer = judge(server, "--out", "out", "--concurrency", "1", "--retries", "0")
    assert answer.code == 2
    assert "asked 1 times in vain (HTTP 503: gone)" in answer.err
    assert "the same command goes on" in answer.err
    server.troubles = []
    assert judge(server, "--out", "out").code == 0
    assert sorted(numbers_asked(server)[3:]) == ALL[2:]


def test_the_key_is_written_nowhere(place: Path, server: JudgeServer, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    (place / "secrets").mkdir()
    (place / "secrets/key").write_text(f"{KEY}\n")
    server.troubles = [error(400, f"key {KEY} is odd")] * 3
    answer = judge(server, "--out", "out", "--api-key-file", "secrets/key", "--limit", "2")
    assert answer.code == 0, answer.err
    assert server.asked[-1].headers["authorization"] == f"Bearer {KEY}"
    shutil.rmtree(place / "secrets")
    written = [path for path in place.rglob("*") if path.is_file()]
    assert len(written) > 10
    assert not [path for path in written if KEY.encode() in path.read_bytes()]
    assert KEY not in answer.out + answer.err


PRICES = ("--price-in", "1000", "--price-out", "10000")


def test_nothing_is_spent_that_nobody_agreed_to(place: Path, server: JudgeServer):
    answer = judge(server, "--out", "out", *PRICES)
    assert answer.code == 2
    assert "This costs about $" in answer.err
    assert "--yes" in answer.err
    assert not server.asked
    answer = judge(server, "--out", "out", *PRICES, "--yes")
    assert answer.code == 0
    # 12 requests of 100 and 10 tokens, as the server counts them.
    assert "1,200 tokens of prompts, 120 of replies: $2.40" in answer.out
    estimated = float(answer.err.split("about $")[1].split("\n")[0])
    prompts = sum(len(p) for p in server.prompts) / 3.5 * 1000 / 1e6
    assert estimated == pytest.approx(prompts + 12 * 40 * 10_000 / 1e6, rel=0.05)


@pytest.mark.parametrize(("typed", "code", "asked"), [("n\n", 1, 0), ("y\n", 0, 2)])
def test_a_person_is_asked(
    place: Path, server: JudgeServer, monkeypatch, typed: str, code: int, asked: int
):
    ours, theirs = pty.openpty()
    with open(theirs, closefd=True) as terminal, open(ours, "wb", buffering=0) as keyboard:
        monkeypatch.setattr(sys, "stdin", terminal)
        keyboard.write(typed.encode())
        answer = judge(server, "--out", "out", "--limit", "2", *PRICES)
    assert answer.code == code, answer.err
    assert "Go on?" in answer.err
    assert len(server.asked) == asked


def test_a_judge_that_is_not_listed_is_said_before_models_answer(place: Path, server: JudgeServer):
    server.models = ["strict-jugde"]
    answer = judge(server, "--limit", "1")
    assert answer.code == 0
    assert 'no model "strict-judge". Did you mean "strict-jugde"?' in answer.err


def test_answers_that_are_cut_off_are_counted(place: Path, server: JudgeServer):
    assert judge(server, "--out", "out", "--limit", "2", "--max-new-tokens", "3").code == 0
    assert result()["items"][1]["responses"] == {"runs/good": "goo", "poor": "poo"}
    assert [m["cut"] for m in result()["results"]["models"]] == [2, 2]


MISTAKES: dict[str, tuple[Callable[[JudgeServer], Answer], list[str]]] = {
    "the same weights twice": (
        lambda server: judge(server, models=("poor", "runs/good", "poor")),
        ["poor and poor are the same weights"],
    ),
    "one price": (lambda server: judge(server, "--price-in", "1"), ["--price-out"]),
    "no such test file": (lambda server: judge(server, "--test", "x.json"), ["x.json", "No such"]),
    "a temperature below zero": (lambda server: judge(server, "--temperature", "-1"), ["-1"]),
    "no such model": (lambda server: judge(server, models=("nowhere",)), ["nowhere"]),
    "no such key file": (lambda server: judge(server, "--api-key-file", "x"), ["key file x"]),
    "an address without a scheme": (
        lambda server: judge(server, "--judge", "localhost/v1"),
        ["no address of a judge", "http://localhost:11434/v1"],
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_ends_before_anything_is_asked(place: Path, server: JudgeServer, mistake: str):
    do, expected = MISTAKES[mistake]
    answer = do(server)
    assert answer.code == 2
    for fragment in expected:
        assert fragment in answer.err
    assert not server.asked


def test_other_settings_need_another_folder(place: Path, server: JudgeServer):
    assert judge(server, "--out", "out", "--limit", "1").code == 0
    answer = judge(server, "--out", "out", "--seed", "1")
    assert answer.code == 2
    assert "seed was 0 and is 1 now" in answer.err
    assert len(server.asked) == 1


def test_a_score_counts_only_for_the_answer_that_was_judged(place: Path, server: JudgeServer):
    assert judge(server, "--out", "out").code == 0
    first = json.loads((place / "out/answers.jsonl").read_text().splitlines()[0])
    with open(place / "out/answers.jsonl", "a") as handle:
        handle.write(json.dumps(first | {"answer": "mended by hand"}) + "\n")
    assert judge(server, "--out", "out").code == 0
    assert numbers_asked(server)[N:] == ["reference 00"]
    assert "mended by hand" in server.prompts[-1]


def test_a_package_that_is_missing_is_named(place: Path, server: JudgeServer, monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    answer = judge(server)
    assert answer.code == 2
    assert "pip install 'fromscratch[eval]'" in answer.err
    assert not list(place.glob("judge-*/answers.jsonl")), "said before models answer"
