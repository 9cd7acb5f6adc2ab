"""`data show` and `doctor DATA --against`, really run."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from fromscratch.data.prepare import PrepareOptions, prepare
from fromscratch.data.sources import Source

PASSAGE = (
    "A red heron waded through the shallow water at dawn, looking for the little fish "
    "that the tide had left behind"
)
STORK = "A stork flew over the roofs of the old town late in the evening"


@pytest.fixture(scope="module", autouse=True)
def _data(place: Path) -> None:
    """Data with what one would want to know: a planted item, markers, odd characters."""
    (place / "odd").mkdir()
    extra = {
        7: f"{PASSAGE.upper()}!\n",
        8: "<|im_start|>user\n",
        9: "\x1b[31m\u202e[bold]\u4f60\u597d\n",
    }
    for i in range(60):
        body = f"The {i}th text of this test says {i} and {i * i}, which is all it says. " * 4
        (place / f"odd/{i:02}.txt").write_text(extra.get(i, "") + body, encoding="utf-8")
    options = PrepareOptions(tokenizer="bytes", val_fraction=0.15, seed=3, documents="file")
    prepare([Source("odd", str(place / "odd"))], place / "data-odd", options)
    items = [{"question": "Which bird?", "answer": STORK}, {"text": PASSAGE}, {"text": "short"}]
    (place / "eval.jsonl").write_text("\n".join(map(json.dumps, items)))
    (place / "clean.txt").write_text(f"{STORK}\nNo word of it is anywhere\n")


class TestShow:
    def test_it_says_what_there_is_and_ends_with_what_to_do(self, fromscratch: Callable):
        answer = fromscratch("data", "show", "data-odd", "--samples", "60", COLUMNS="80")
        assert answer.code == 0, answer.err
        assert not answer.err
        for fragment in (
            "together", "2,048 up", "median", "longer than a context of 1,024", "60 random",
            "train-00000.npy document", "most frequent tokens", "of 257 ids", "never occur",
            "<|im_start|>", "word for word: none (every document was compared)",
            r"\x1b[31m\u202e[bold]你好\nThe 9th", "What to do",
        ):  # fmt: skip
            assert fragment in answer.out, fragment
        assert answer.out.index("What to do") > answer.out.index("word for word")
        advice = answer.out.partition("What to do\n")[2]
        assert "<|im_start|> stands in documents as text" in advice
        assert "4." not in advice

    @pytest.mark.parametrize("width", [80, 200])
    def test_it_keeps_to_the_width_and_is_plain_in_a_pipe(self, fromscratch: Callable, width: int):
        answer = fromscratch("data", "show", "data-odd", COLUMNS=str(width))
        lines = answer.out.split("\n")
        assert max(map(len, lines)) <= width
        assert width < 100 or max(map(len, lines)) > 120, "wide terminals are used"
        assert "\x1b" not in answer.out
        assert "\u202e" not in answer.out

    def test_a_program_gets_everything(self, fromscratch: Callable):
        answer = fromscratch(
            "data", "show", "data-odd", "--json", "--context", "256", "--seed", "5"
        )
        found = json.loads(answer.out)
        assert found["total"]["documents"] == 60 == found["lengths"]["documents"]
        assert found["lengths"]["context"] == 256
        assert sum(part["documents"] for part in found["lengths"]["bins"]) == 60
        assert {"documents", "tokens", "bytes"} <= found["splits"]["val"].keys()
        assert found["sources"]["odd"]["skipped_files"] == 0
        assert len(found["samples"]) == 10
        assert found["samples"][0]["place"].keys() == {"split", "source", "file", "number"}
        content = found["content"]
        assert (content["exact_copies"], content["looked_at"]) == (0, {"train": 1.0, "val": 1.0})
        [special] = content["special"]
        assert (special["text"], special["count"], special["documents"]) == ("<|im_start|>", 1, 1)
        assert isinstance(found["advice"], list)
        again = fromscratch("data", "show", "data-odd", "--json", "--context", "256", "--seed", "5")
        assert again.out == answer.out

    def test_a_picture_of_the_lengths(self, fromscratch: Callable, place: Path):
        answer = fromscratch("data", "show", "data-odd", "--picture", "lengths.png")
        assert "lengths.png" in answer.out
        with Image.open(place / "lengths.png") as picture:
            assert picture.size == (1000, 500)
            assert len(picture.convert("RGB").getcolors(500_000) or []) > 10


class TestDoctor:
    def test_what_is_found_is_shown_on_both_sides(self, fromscratch: Callable):
        answer = fromscratch("doctor", "data-odd", "--against", "eval.jsonl", COLUMNS="80")
        assert answer.code == 1, answer
        for fragment in (
            "3 items, 1 of them too short", "1 (50%) in the training",
            "line 2: 9 of 9 n-grams found",
            "21 words in train-00000.npy document", "training: A RED HERON",
            "item:     A red heron",
            "(R16)",
        ):  # fmt: skip
            assert fragment in answer.out, fragment
        assert "line 1:" not in answer.out
        assert max(map(len, answer.out.split("\n"))) <= 80

    def test_clean_data(self, fromscratch: Callable):
        answer = fromscratch("doctor", "data-odd", "--against", "clean.txt")
        assert answer.code == 0, answer
        assert "data-odd is clean of these items" in answer.out
        assert "all training documents" in answer.out

    def test_a_program_gets_all_files(self, fromscratch: Callable):
        answer = fromscratch(
            "doctor", "data-odd", "--against", "clean.txt", "--against", "eval.jsonl", "--json"
        )
        assert answer.code == 1
        found = json.loads(answer.out)
        clean, dirty = found["files"]
        assert (clean["items"], clean["contaminated"], clean["too_short"]) == (2, 0, 1)
        assert (dirty["items"], dirty["contaminated"], dirty["share"]) == (3, 1, 0.5)
        [item] = dirty["found"]
        assert (item["item"], item["ngrams"], item["ngrams_found"]) == ("line 2", 9, 9)
        assert item["passages"][0]["training"] == PASSAGE.upper()
        assert item["passages"][0]["place"]["split"] == "train"
        assert (found["looked_at"], found["ngram"]) == (1.0, 13)


@pytest.mark.parametrize(
    "arguments",
    [["data", "show", "data-odd"], ["doctor", "data-odd", "--against", "clean.txt"]],
)
def test_looking_does_not_load_torch(place: Path, arguments: list[str]):
    code = (
        "import sys\n"
        "from fromscratch.cli.main import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as end:\n    assert not end.code\n"
        "sys.stderr.write(str('torch' in sys.modules))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=True
    )
    assert done.stderr == "False"
