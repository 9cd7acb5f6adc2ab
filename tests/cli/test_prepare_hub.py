"""`hf:` sources through the command line, against a hub on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

from fromscratch.data.shards import load_manifest
from tests.cli.preparing_cli import (
    BYTES,
    ENVIRONMENT,
    answer_of,
    documents,
    files,
    prepare,
    run,
    start,
    texts,
    tokens_of,
)
from tests.data.hub_material import bytes_in, card, lines, parquet, wait_for
from tests.data.hub_server import HubServer, Seen, Trouble

N_FILES, EACH = 6, 400


def file_texts(number: int) -> list[str]:
    """The documents of one file: some that no compression makes small, so that it is large."""
    return [f"{os.urandom(40).hex()} {t}" for t in texts(EACH, f"of file {number}")]


@pytest.fixture(scope="module")
def wanted() -> list[list[str]]:
    return [file_texts(number) for number in range(N_FILES)]


@pytest.fixture
def hub(wanted: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A data set of six Parquet files, a test split and other things; HF_ENDPOINT names the hub."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    with HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        server.add("org/set", contents(wanted))
        yield server


def contents(wanted: list[list[str]]) -> dict[str, bytes]:
    found = {
        f"data/train-{n:05}-of-{N_FILES:05}.parquet": parquet(of_file)
        for n, of_file in enumerate(wanted)
    }
    return found | {
        "data/test-00000-of-00001.parquet": parquet(texts(5, "test")),
        "README.md": card("license: mit"),
        "extra.jsonl": lines(["not this"]),
    }


def fetched(hub: HubServer) -> list[str]:
    """The names of the files whose content was asked for, in order, each once in a row."""
    names: list[str] = []
    for seen in hub.fetches():
        name = seen.path.split("&name=data%2F")[-1].split("&name=data/")[-1]
        if names[-1:] != [name]:
            names.append(name)
    return names


def content_of(hub: HubServer, number: int) -> list[Seen]:
    """What was asked for of the content of one file."""
    return [seen for seen in hub.fetches() if name_of(number) in seen.path]


def name_of(number: int) -> str:
    return f"train-{number:05}-of-{N_FILES:05}.parquet"


def test_a_data_set_larger_than_the_disk_it_may_take(
    hub: HubServer, wanted: list[list[str]], tmp_path: Path
) -> None:
    sizes = [len(content) for content in contents(wanted).values()]
    room = int(2.5 * max(sizes))
    command = ["hf:org/set", "--out", "data", "--tokenizer", "bytes", "--shard-tokens", "90000"]
    process = start(
        "prepare", *command, "--keep-local", f"{room}B", "--hub-cache", "cache", cwd=tmp_path
    )
    most = 0
    while process.poll() is None:
        most = max(most, bytes_in(tmp_path / "cache"))
        time.sleep(0.005)
    answer = answer_of(process)
    assert answer.code == 0, answer
    assert 0 < most <= room
    assert documents(tmp_path / "data") == sorted(chain.from_iterable(wanted))
    # Each once, in order: neither the share to hold out nor a look at the text costs a download.
    assert fetched(hub) == [name_of(n) for n in range(N_FILES)]
    assert f"hf:org/set: {N_FILES} files, " in answer.err
    assert "Not read: " in answer.err
    assert "split test (1 files)" in answer.err
    [source] = load_manifest(tmp_path / "data").sources
    assert source.spec == f"hf:org/set@{hub.repos['datasets', 'org/set'].refs['main']}"


def test_killed_while_it_downloads_and_changed_meanwhile(
    hub: HubServer, wanted: list[list[str]], tmp_path: Path
) -> None:
    """What goes on is the commit that it began with, and no byte is asked for twice."""
    command = ["hf:org/set", *BYTES, "--hub-cache", "cache", "--shard-tokens", "30000", "--out"]
    prepare(*command, "clean", cwd=tmp_path)
    command[command.index("cache")] = "other cache"
    hub.seen.clear()
    hub.trouble.append(Trouble(name_of(3), "slow", times=9, per_chunk=0.05))
    process = start("prepare", *command, "data", cwd=tmp_path)
    wait_for(lambda: any(name_of(3) in s.path and s.sent > 20_000 for s in hub.fetches()))
    wait_for(lambda: (tmp_path / "data/train-00001.npy").is_file())
    process.kill()
    process.communicate()
    arrived = sum(seen.sent for seen in content_of(hub, 3))
    hub.trouble.clear()
    repository = hub.repos["datasets", "org/set"]
    first = repository.refs["main"]
    repository.commit({"data/train-00000-of-00001.parquet": parquet(texts(100, "other"))})
    hub.seen.clear()
    prepare(*command, "data", cwd=tmp_path)
    assert files(tmp_path / "data") == files(tmp_path / "clean")
    assert load_manifest(tmp_path / "data").sources[0].spec == f"hf:org/set@{first}"
    assert not content_of(hub, 0), "it lies here already"
    [resumed] = content_of(hub, 3)
    assert resumed.range is not None
    assert int(resumed.range.removeprefix("bytes=").rstrip("-")) > arrived - 20_000
    # Other settings are another preparation: of the data set as it is now.
    prepare(*command, "new", "--seed", "1", cwd=tmp_path)
    assert documents(tmp_path / "new") == sorted(texts(100, "other"))


def test_parts_fetch_their_own_files_only(
    hub: HubServer, wanted: list[list[str]], tmp_path: Path
) -> None:
    prepare(
        "hf:org/set", "--out", "whole", "--tokenizer", "bytes", "--hub-cache", "c", cwd=tmp_path
    )
    for part in range(2):
        hub.seen.clear()
        share = ["--part", f"{part}/2", "--out", f"part-{part}", "--hub-cache", f"cache-{part}"]
        prepare("hf:org/set", "--tokenizer", "bytes", *share, cwd=tmp_path)
        assert fetched(hub) == [name_of(n) for n in range(3 * part, 3 * part + 3)]
    joined = run("data", "merge", "part-0", "part-1", "--out", "joined", cwd=tmp_path)
    assert joined.code == 0, joined
    assert files(tmp_path / "joined") == files(tmp_path / "whole")


def test_two_data_sets_share_a_small_cache_and_nothing_comes_twice(
    hub: HubServer, wanted: list[list[str]], tmp_path: Path
) -> None:
    hub.add("org/other", {"train.parquet": parquet(wanted[5])})
    room = int(1.2 * max(len(content) for content in contents(wanted).values()))
    prepare(
        "hf:org/set", "hf:org/other", *BYTES, "--out", "data", "--keep-local", f"{room}B",
        "--hub-cache", "cache", cwd=tmp_path,
    )  # fmt: skip
    assert documents(tmp_path / "data", "other") == sorted(wanted[5])
    assert len(hub.fetches()) == N_FILES + 1


def test_ctrl_c_while_it_downloads(hub: HubServer, wanted: list[list[str]], tmp_path: Path) -> None:
    command = ["hf:org/set", *BYTES, "--hub-cache", "cache", "--out", "data"]
    hub.trouble.append(Trouble(name_of(2), "slow", times=9, per_chunk=1.0))
    process = start("prepare", *command, cwd=tmp_path)
    wait_for(lambda: any(seen.sent for seen in content_of(hub, 2)))
    time.sleep(0.3)
    asked = time.monotonic()
    process.send_signal(signal.SIGINT)
    answer = answer_of(process)
    assert time.monotonic() - asked < 10
    assert answer.code == 130, answer
    assert answer.err.splitlines()[-1].startswith("Interrupted; the same command goes on")
    assert "Traceback" not in answer.err
    hub.trouble.clear()
    prepare(*command, cwd=tmp_path)
    assert documents(tmp_path / "data") == sorted(chain.from_iterable(wanted))


def test_parts_of_different_commits_are_not_joined(hub: HubServer, tmp_path: Path) -> None:
    command = ["hf:org/small", *BYTES, "--hub-cache", "cache"]
    for part in range(2):
        files_now = {f"train-{n}.jsonl": lines(texts(50, f"{part} {n}")) for n in range(2)}
        if part == 0:
            hub.add("org/small", files_now)
        else:
            hub.repos["datasets", "org/small"].commit(files_now)
        prepare(*command, "--part", f"{part}/2", "--out", f"part-{part}", cwd=tmp_path)
    refused = run("data", "merge", "part-0", "part-1", "--out", "data", cwd=tmp_path)
    assert refused.code == 2
    assert "at different commits" in refused.err
    assert "hf:ORG/NAME@COMMIT" in refused.err


@pytest.mark.slow
def test_a_recipe_trains_on_data_sets_of_the_hub(hub: HubServer, tmp_path: Path) -> None:
    hub.add("org/chats", {"train.jsonl": lines_of_chats(150)})
    recipe = (
        "[model]\nfamily = 'modern'\nn_layer = 1\nn_head = 2\nd_model = 16\ncontext = 32\n"
        "vocab_size = 257\npadded_vocab = 0\n[data]\ntokenizer = 'bytes'\n"
        "val_fraction = 0.1\ndedup = 'exact'\n"
        "[train]\nsteps = 2\ntokens_per_step = 128\nmicro_batch = 2\n"
        "[eval]\nevery = 2\ntokens = 512\n[sample]\nevery = 2\nprompts = []\n"
    )
    source = (
        "[[data.source]]\nname = 'web'\npath = 'hf:org/set'\nweight = 3\n"
        "[[data.source]]\nname = 'chats'\npath = 'hf:org/chats'\nrender = 'alpaca'\n"
        "[[data.source]]\nname = 'mine'\npath = 'mine.jsonl'\nfield = 'body'\n"
    )
    (tmp_path / "mine.jsonl").write_text(
        "".join(json.dumps({"body": text}) + "\n" for text in texts(150))
    )
    (tmp_path / "mixed.toml").write_text(recipe + source)
    (tmp_path / "one.toml").write_text(recipe)
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    mixed = run("train", "mixed.toml", "--run", "run", cwd=tmp_path, environment=cache)
    assert mixed.code == 0, mixed
    assert "hf:org/set: 6 files, " in mixed.err
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").open()]
    assert {row["set"] for row in rows if "val_loss" in row} == {
        "validation",
        "web",
        "chats",
        "mine",
    }
    web = next(path for path in (tmp_path / "prepared").iterdir() if path.name.startswith("web"))
    chats = next(path for path in (tmp_path / "prepared").iterdir() if path.name.startswith("cha"))
    assert documents(chats)[0].startswith("Below is an instruction")
    hub.seen.clear()
    alone = run(
        "train", "one.toml", "data.path=hf:org/set", "--run", "alone",
        cwd=tmp_path, environment=cache,
    )  # fmt: skip
    assert alone.code == 0, alone
    assert not hub.fetches(), "the copies lie here already"
    other = next(path for path in (tmp_path / "prepared").iterdir() if path.name.startswith("set"))
    assert tokens_of(other) == tokens_of(web)


def lines_of_chats(n: int) -> bytes:
    return "".join(
        json.dumps({"instruction": f"Say {i}.", "input": "", "output": f"{i}"}) + "\n"
        for i in range(n)
    ).encode()


def test_without_a_network_or_the_package_there_is_a_sentence(tmp_path: Path) -> None:
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    answer = run("prepare", "hf:org/set", "--out", "data", cwd=tmp_path, environment=nowhere)
    assert answer.code == 2
    assert "No connection to the hub at http://127.0.0.1:9" in answer.err
    assert "Traceback" not in answer.err
    program = (
        "import sys; sys.modules['huggingface_hub'] = None\n"
        "from fromscratch.cli.main import main\n"
        "main(['prepare', 'hf:org/set', '--out', 'data'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "pip install 'fromscratch[hub]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir()), "nothing was begun"
