"""What the name of a data set on the hub stands for, and what is said if it is for nothing."""

import gzip
import os
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest
from hub_material import card, lines, parquet, shards
from hub_server import Repo

from fromscratch.data.hub import HubFile
from fromscratch.data.hub_layout import choose_by_guess, format_of, split_of
from fromscratch.foundation.errors import UserError

# --- which files a name stands for ----------------------------------------------------------------

A = parquet(["one", "two"])
J = gzip.compress(lines(["three"]))

FINEWEB_CARD = """
license: odc-by
configs:
- config_name: default
  data_files:
  - split: train
    path: data/*/*
- config_name: sample-10BT
  data_files:
  - split: train
    path: sample/10BT/*
- config_name: CC-MAIN-2024-10
  data_files:
  - split: train
    path: data/CC-MAIN-2024-10/*
"""
C4_CARD = """
configs:
- config_name: en
  data_files:
  - split: train
    path: en/c4-train.*.json.gz
  - split: validation
    path: en/c4-validation.*.json.gz
- config_name: realnewslike
  data_files:
  - split: train
    path: realnewslike/c4-train.*.json.gz
"""
COSMOPEDIA_CARD = """
configs:
- config_name: stories
  data_files:
  - split: train
    path: data/stories/train-*
- config_name: wikihow
  data_files:
  - split: train
    path: data/wikihow/train-*
"""
LAYOUTS: dict[str, dict[str, bytes]] = {
    "HuggingFaceFW/fineweb-edu": {
        "README.md": card(FINEWEB_CARD),
        ".gitattributes": b"*.parquet filter=lfs",
        "data/CC-MAIN-2024-10/train-00000-of-00020.parquet": A,
        "data/CC-MAIN-2013-20/train-00000-of-00014.parquet": A + b"1",
        "sample/10BT/001_00000.parquet": A + b"2",
        "sample/10BT/000_00000.parquet": A + b"3",
        "sample/100BT/000_00000.parquet": A + b"4",
    },
    "allenai/c4": {
        "README.md": card(C4_CARD),
        "en/c4-train.00001-of-01024.json.gz": J,
        "en/c4-train.00000-of-01024.json.gz": J,
        "en/c4-validation.00000-of-00008.json.gz": J,
        "realnewslike/c4-train.00000-of-00512.json.gz": J,
        "multilingual/c4-af.tfrecord-00000-of-00064.json.gz": J,
    },
    "HuggingFaceTB/cosmopedia": {
        "README.md": card(COSMOPEDIA_CARD),
        "data/stories/train-00000-of-00043.parquet": A,
        "data/stories/train-00001-of-00043.parquet": A,
        "data/wikihow/train-00000-of-00002.parquet": A,
    },
    "bigcode/the-stack": {
        "README.md": card("extra_gated_prompt: read this"),
        "data/python/train-00000-of-00206.parquet": A,
        "data/python/train-00001-of-00206.parquet": A,
        "data/rust/train-00000-of-00032.parquet": A,
        "licenses.json": b"[]",
    },
    "bigcode/the-stack-dedup": {
        "README.md": card("language: [code]"),
        "data/python/data-00000-of-00144.parquet": A,
        "data/test-driven/data-00000-of-00001.parquet": A,
    },
    "tatsu-lab/alpaca": {
        "README.md": card("dataset_info:\n  features:\n  - name: text\n    dtype: string"),
        "dataset_infos.json": b"{}",
        "data/train-00000-of-00001-a09b74b3ef9c3b56.parquet": A,
    },
    "yahma/alpaca-cleaned": {
        "README.md": card("license: cc-by-4.0"),
        ".gitattributes": b"",
        "alpaca_data_cleaned.json": b'[{"instruction": "a", "output": "b"}]',
    },
    "made/several-splits": {
        "train/a.jsonl": lines(["a"]),
        "valid/a.jsonl": lines(["b"]),
        "test.jsonl": lines(["c"]),
        "LICENSE": b"",
        "LICENSE.txt": b"free",
    },
    "made/two-formats": {
        "all.parquet": parquet([f"{n} bottles on the wall" for n in range(50)]),
        "all.jsonl": lines(["x"]),
        "picture.png": b"",
    },
    "made/spellings": {
        "README.md": card(
            "configs:\n- config_name: text\n  data_files: x/*.txt\n"
            "- config_name: rows\n  data_dir: rows\n  default: true\n"
            "- config_name: both\n  data_files: [x/a.txt, rows/train.jsonl]\n"
            "- config_name: named\n  data_files: [{split: train, path: [x/a.txt]}, "
            "{split: test, path: x/b.txt}]\n"
            "- config_name: inside\n  data_dir: x\n  data_files: a.txt\n"
            "- config_name: no-train\n  data_files:\n  - {split: sft, path: x/a.txt}\n"
            "  - {split: dpo, path: x/b.txt}\n"
        ),
        "x/a.txt": b"a",
        "x/b.txt": b"b",
        "rows/train.jsonl": lines(["a"]),
        "rows/test.jsonl": lines(["a"]),
    },
    "made/no-card": {"books/a.txt.gz": gzip.compress(b"a"), "books/b.txt.gz": gzip.compress(b"b")},
}

NAMES = [
    (
        "HuggingFaceFW/fineweb-edu:sample-10BT",
        ["sample/10BT/000_00000.parquet", "sample/10BT/001_00000.parquet"],
    ),
    (
        "HuggingFaceFW/fineweb-edu",
        [
            "data/CC-MAIN-2013-20/train-00000-of-00014.parquet",
            "data/CC-MAIN-2024-10/train-00000-of-00020.parquet",
        ],
    ),
    ("HuggingFaceFW/fineweb-edu:sample/100BT", ["sample/100BT/000_00000.parquet"]),
    (
        "allenai/c4:en",
        ["en/c4-train.00000-of-01024.json.gz", "en/c4-train.00001-of-01024.json.gz"],
    ),
    (
        "allenai/c4:multilingual/*-af.*",
        ["multilingual/c4-af.tfrecord-00000-of-00064.json.gz"],
    ),
    (
        "HuggingFaceTB/cosmopedia:stories",
        [
            "data/stories/train-00000-of-00043.parquet",
            "data/stories/train-00001-of-00043.parquet",
        ],
    ),
    (
        "bigcode/the-stack:data/python",
        [
            "data/python/train-00000-of-00206.parquet",
            "data/python/train-00001-of-00206.parquet",
        ],
    ),
    ("bigcode/the-stack-dedup:data/python", ["data/python/data-00000-of-00144.parquet"]),
    ("tatsu-lab/alpaca", ["data/train-00000-of-00001-a09b74b3ef9c3b56.parquet"]),
    ("yahma/alpaca-cleaned", ["alpaca_data_cleaned.json"]),
    ("yahma/alpaca-cleaned:alpaca_data_cleaned.json", ["alpaca_data_cleaned.json"]),
    ("made/several-splits", ["train/a.jsonl"]),
    ("made/several-splits:**/*.jsonl", ["test.jsonl", "train/a.jsonl", "valid/a.jsonl"]),
    ("made/two-formats", ["all.parquet"]),
    ("made/spellings", ["rows/train.jsonl"]),
    ("made/spellings:text", ["x/a.txt", "x/b.txt"]),
    ("made/spellings:both", ["rows/train.jsonl", "x/a.txt"]),
    ("made/spellings:named", ["x/a.txt"]),
    ("made/spellings:inside", ["x/a.txt"]),
    ("made/no-card", ["books/a.txt.gz", "books/b.txt.gz"]),
]


@pytest.mark.parametrize(("name", "expected"), NAMES, ids=[name for name, _ in NAMES])
def test_a_name_stands_for_these_files(hub, open_set, name, expected):
    repo = name.split(":")[0]
    hub.page = 2  # every listing needs several pages
    content = hub.add(repo, LAYOUTS[repo]).commits
    dataset = open_set(f"hf:{name}")
    files = dataset.files()
    assert [f.path for f in files] == expected
    with dataset.local(files[0]) as path:
        assert path.read_bytes() == content[dataset.revision][expected[0]]
        assert path.name.endswith(expected[0].split("/")[-1])


def test_what_is_left_out_is_counted(hub, open_set):
    for name in ("made/several-splits", "made/two-formats"):
        hub.add(name, LAYOUTS[name])
    splits = open_set("hf:made/several-splits").left_out
    assert splits == {"split validation": 1, "split test": 1, "LICENSE": 1, ".txt": 1}
    assert open_set("hf:made/two-formats").left_out == {"JSON": 1, ".png": 1}


def test_only_the_folders_of_a_configuration_are_listed(hub, open_set):
    name = "HuggingFaceFW/fineweb-edu"
    hub.add(name, LAYOUTS[name])
    open_set(f"hf:{name}:sample-10BT").files()
    trees = [s.path for s in hub.seen if "/tree/" in s.path]
    assert len(trees) == 1
    assert "sample%2F10BT" in trees[0]


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("data/train-00000-of-00002.parquet", "train"),
        ("data/train_sft-00000-of-00002.parquet", "train_sft"),
        ("data/dev-00000-of-00002.parquet", "validation"),
        ("data/python/data-00000-of-00144.parquet", None),
        ("train/0.parquet", "train"),
        ("my.train.jsonl", "train"),
        ("val/training/a.txt", "train"),
        ("train/eval_1.json", "test"),
        ("constrain/a.txt", None),
        ("retrained.txt", None),
        ("dev.txt", "validation"),
    ],
)
def test_the_split_is_guessed_by_whole_words(path, split):
    assert split_of(path) == split


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a.json.gz", "JSON"),
        ("a.jsonl.zst", "JSON"),
        ("a.parquet", "Parquet"),
        ("a.parquet.gz", None),
        ("a.TXT", "text"),
        ("README.md", None),
        ("x/.hidden/a.txt", None),
        ("__pycache__/a.txt", None),
        ("dataset_infos.json", None),
        ("gz", None),
    ],
)
def test_the_formats_that_can_be_read(path, kind):
    assert format_of(path) == kind


# --- mistakes and refusals ------------------------------------------------------------------------


def refuse(status: int, code: str) -> Callable[[Repo], None]:
    def apply(repo: Repo) -> None:
        repo.refused = (status, code)

    return apply


def ask_for_token(repo: Repo) -> None:
    repo.token = "hf_right"


REFUSALS = {
    "several configurations": (
        "HuggingFaceTB/cosmopedia",
        None,
        ["several configurations: stories, wikihow", "hf:HuggingFaceTB/cosmopedia:stories"],
    ),
    "unknown configuration": (
        "allenai/c4:enn",
        None,
        ['"enn"', 'Did you mean "en"?', "en, realnewslike"],
    ),
    "folder without its parents": (
        "bigcode/the-stack:python",
        None,
        ['"python"', 'Did you mean "data/python"?'],
    ),
    "glob that matches nothing": ("allenai/c4:en/*.parquet", None, ["en/*.parquet"]),
    "no train split": (
        "made/spellings:no-train",
        None,
        ["no split called train", "dpo, sft", "hf:made/spellings:x/a.txt"],
    ),
    "gated": (
        "bigcode/the-stack:data/python",
        refuse(403, "GatedRepo"),
        ["gated", "/datasets/bigcode/the-stack", "hf auth login", "HF_TOKEN"],
    ),
    "forbidden": ("allenai/c4:en", refuse(403, "Forbidden"), ["refuses access", "HTTP 403"]),
    "private": ("allenai/c4:en", ask_for_token, ["or it is private", "hf auth login"]),
    "unknown name": ("allenai/c5", None, ['no data set "allenai/c5"', "Check the name"]),
    "another owner": ("someone/c4", None, ["There is allenai/c4."]),
    "a model": ("openai/gpt2", None, ["is a model on the hub, not a data set"]),
    "unknown revision": ("allenai/c4:en@v9", None, ["no such revision", "allenai/c4/tree/main"]),
    "nothing readable": ("made/pictures", None, ["only .png", "@refs/convert/parquet"]),
    "card that is no YAML": ("made/broken-card", None, ["card of made/broken-card", "FOLDER"]),
    "not a name": ("a/b/c", None, ["does not name a data set", "hf:ORG/NAME"]),
    "empty configuration": ("a/b:", None, ["does not name a data set"]),
    "server out of order": (
        "allenai/c4:en",
        refuse(500, "Oops"),
        ["HTTP 500", "goes on where it stopped"],
    ),
}


@pytest.mark.parametrize("mistake", REFUSALS)
def test_a_refusal_says_what_to_do(hub, open_set, mistake):
    name, change, expected = REFUSALS[mistake]
    for repo in LAYOUTS:
        hub.add(repo, LAYOUTS[repo])
    hub.add("openai/gpt2", {"config.json": b"{}"}, kind="models")
    hub.add("made/pictures", {"a.png": b"", "b.png": b""})
    hub.add("made/broken-card", {"README.md": card("a: [1\nb: }"), "a.txt": b"a"})
    if change:
        change(hub.repos["datasets", name.split(":")[0]])
    with pytest.raises(UserError) as caught:
        open_set(f"hf:{name}").files()
    for part in expected:
        assert part in str(caught.value)


def test_a_token_opens_and_never_reaches_the_cdn(hub, open_set, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    hub.add("me/own", shards(1)).token = "hf_right"
    dataset = open_set("hf:me/own")
    with dataset.local(dataset.files()[0]) as path:
        assert path.stat().st_size == 200_000
    assert all(s.authorized for s in hub.seen if not s.path.startswith("/cdn/"))
    assert not any(s.authorized for s in hub.fetches())
    assert {s.host.split(":")[0] for s in hub.fetches()} == {"localhost"}


def test_no_connection_is_said_within_seconds(open_set):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(UserError, match=r"No connection to the hub at http://127.0.0.1") as caught:
        open_set("hf:a/b", endpoint=endpoint).files()
    assert "Check the network" in str(caught.value)


def test_the_library_s_offline_switch_is_explained(hub):
    code = (
        "from pathlib import Path; from fromscratch.data.hub import HubDataset\n"
        "HubDataset('hf:a/b', folder=Path('x'), keep_local=1).files()"
    )
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": hub.endpoint}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert "Unset HF_HUB_OFFLINE" in result.stderr
    assert hub.seen == []


def test_a_missing_package_is_named_with_its_command():
    code = (
        "import sys; sys.modules['huggingface_hub'] = None\n"
        "from pathlib import Path; from fromscratch.data.hub import HubDataset\n"
        "HubDataset('hf:a/b', folder=Path('x'), keep_local=1).files()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "pip install 'fromscratch[hub]'" in result.stderr


def test_guessing_refuses_splits_that_are_all_not_train():
    files = [HubFile("dev.txt", 1, "0" * 40), HubFile("test.txt", 1, "1" * 40)]
    with pytest.raises(UserError, match="test, validation, none of them train"):
        choose_by_guess(files, "", "a/b")
