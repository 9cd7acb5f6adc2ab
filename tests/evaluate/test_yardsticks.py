"""Uniform, unigram, gzip and xz against hand computation and the commands' own formats."""

from __future__ import annotations

import gzip
import lzma
import math
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable

import pytest

from fromscratch.data.shards import TokenStream
from fromscratch.evaluate.yardsticks import yardsticks
from fromscratch.tokenizer.build import bytes_tokenizer
from fromscratch.tokenizer.tokenizer import Tokenizer

StreamMaker = Callable[[list[list[int]]], TokenStream]
EOT = 256


@pytest.fixture(scope="module")
def texts(shakespeare: str) -> tuple[list[bytes], list[bytes]]:
    passages = [shakespeare[i : i + 3000].encode() for i in range(0, 150_000, 3000)]
    return passages[:35], passages[35:]


@pytest.fixture(scope="module")
def rows(stream_of: StreamMaker, texts: tuple[list[bytes], list[bytes]]) -> dict[str, float]:
    train, held_out = (stream_of([[*t, EOT] for t in side]) for side in texts)
    made = yardsticks(train, held_out, bytes_tokenizer())
    assert [y.name for y in made] == [
        "uniform over tokens",
        "unigram (token frequencies)",
        "gzip -9",
        "xz -9",
    ]
    return {y.name: y.bpb for y in made}


def test_uniform(rows: dict[str, float], texts: tuple[list[bytes], list[bytes]]) -> None:
    size = sum(map(len, texts[1]))
    expected = (size + len(texts[1])) * math.log2(257) / size
    assert rows["uniform over tokens"] == pytest.approx(expected, rel=1e-12)


def test_unigram(rows: dict[str, float], texts: tuple[list[bytes], list[bytes]]) -> None:
    seen = Counter(i for t in texts[0] for i in [*t, EOT])
    total = sum(seen.values()) + 257
    bits = -math.fsum(math.log2((seen[i] + 1) / total) for t in texts[1] for i in [*t, EOT])
    assert rows["unigram (token frequencies)"] == pytest.approx(
        bits / sum(map(len, texts[1])), rel=1e-9
    )


def test_compressors(rows: dict[str, float], texts: tuple[list[bytes], list[bytes]]) -> None:
    text = b"".join(texts[1])
    assert rows["gzip -9"] == 8 * len(gzip.compress(text, 9)) / len(text)
    assert rows["xz -9"] == 8 * len(lzma.compress(text, preset=9)) / len(text)


@pytest.mark.skipif(not shutil.which("gzip") or not shutil.which("xz"), reason="needs gzip and xz")
def test_the_commands_themselves(
    rows: dict[str, float], texts: tuple[list[bytes], list[bytes]]
) -> None:
    text = b"".join(texts[1])
    for command in ("gzip", "xz"):
        packed = subprocess.run([command, "-9", "-c"], input=text, capture_output=True, check=True)
        assert rows[f"{command} -9"] == pytest.approx(8 * len(packed.stdout) / len(text), rel=0.002)


def test_worst_to_best(rows: dict[str, float]) -> None:
    values = list(rows.values())
    assert values[0] > 8 > values[1] > values[2] > values[3] > 1


def test_gpt2_tokens_of_the_same_text(
    stream_of: StreamMaker,
    texts: tuple[list[bytes], list[bytes]],
    gpt2: Tokenizer,
    rows: dict[str, float],
) -> None:
    train, held_out = (
        stream_of([[*gpt2.encode(t.decode()), gpt2.eot_id] for t in side]) for side in texts
    )
    made = {y.name: y.bpb for y in yardsticks(train, held_out, gpt2)}
    # The compressors see the text and not the tokens.
    assert made["gzip -9"] == rows["gzip -9"]
    assert made["xz -9"] == rows["xz -9"]
    assert made["unigram (token frequencies)"] < rows["unigram (token frequencies)"]
