"""`prepare` of every kind of source, through the command line and down to the shards."""

from __future__ import annotations

import gzip
import json
import shlex
import struct
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from safetensors.numpy import save_file

from fromscratch.data.compressed import zstd
from fromscratch.data.shards import load_manifest
from tests.cli.preparing_cli import (
    BYTES,
    documents,
    files,
    prepare,
    run,
    start,
    texts,
    tokens_of,
    wait_for_shards,
    write_texts,
)


def lines(of: list[str], field: str = "text") -> bytes:
    return "".join(json.dumps({"id": i, field: t}) + "\n" for i, t in enumerate(of)).encode()


def test_a_mixture_of_all_kinds_gives_each_source_its_documents(tmp_path: Path) -> None:
    wanted = {kind: texts(120, kind) for kind in ("jsonl", "array", "zst", "parquet", "folder")}
    (tmp_path / "x.jsonl").write_bytes(lines(wanted["jsonl"], "body"))
    array = json.dumps([{"body": text} for text in wanted["array"]])
    (tmp_path / "x.json.gz").write_bytes(gzip.compress(array.encode()))
    (tmp_path / "two words.jsonl.zst").write_bytes(zstd.compress(lines(wanted["zst"], "body")))
    table = pyarrow.table({"n": range(120), "body": wanted["parquet"]})
    (tmp_path / "pq").mkdir()
    pyarrow.parquet.write_table(table, tmp_path / "pq/0.parquet", row_group_size=50)
    write_texts(tmp_path / "plain", wanted["folder"])
    prepare(
        "jsonl=x.jsonl", "array=x.json.gz", "two words.jsonl.zst", "parquet=pq", "folder=plain/*",
        "--field", "body", "--out", "data", *BYTES, cwd=tmp_path,
    )  # fmt: skip
    manifest = load_manifest(tmp_path / "data")
    names = [source.name for source in manifest.sources]
    assert names == ["jsonl", "array", "two words.jsonl", "parquet", "folder"]
    for name, kind in zip(names, wanted, strict=True):
        assert documents(tmp_path / "data", name) == sorted(wanted[kind])
        assert manifest.total("tokens", "val", name) > 0, "each source has its validation set"


def test_standard_input_is_read_as_a_file_would_be(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(" ".join(texts(400)))
    (tmp_path / "a.jsonl").write_bytes(lines(texts(400), "body"))
    for spec, name, more in (("-", "a.txt", []), ("-.jsonl", "a.jsonl", ["--field", "body"])):
        given = (tmp_path / name).read_bytes()
        out = f"piped{name}"
        prepare(spec, "--out", out, *more, *BYTES, cwd=tmp_path, given=given)
        prepare(name, "--out", f"read{name}", *more, *BYTES, cwd=tmp_path)
        assert tokens_of(tmp_path / out) == tokens_of(tmp_path / f"read{name}")
        assert load_manifest(tmp_path / out).sources[0].name == "stdin"
    assert not list(tmp_path.glob(".*")), "what was put beside the output is gone"


def test_a_pipe_that_is_killed_and_piped_again(tmp_path: Path) -> None:
    given = "\n\n".join(texts(12_000)).encode()
    command = ["-", "--documents", "paragraph", "--shard-tokens", "30_000", *BYTES]
    prepare(*command, "--out", "clean", cwd=tmp_path, given=given)
    # In the middle of what is piped: nothing is known of it yet.
    process = start("prepare", *command, "--out", "data", cwd=tmp_path, stdin=-1)
    assert process.stdin is not None
    process.stdin.write(given[:2_000_000])
    process.stdin.flush()
    process.kill()
    process.communicate()
    # In the middle of the work.
    process = start("prepare", *command, "--out", "data", cwd=tmp_path, stdin=-1)
    assert process.stdin is not None
    process.stdin.write(given)
    process.stdin.close()
    process.stdin = None
    wait_for_shards(process, tmp_path / "data", 20)
    process.kill()
    process.communicate()
    answer = prepare(*command, "--out", "data", cwd=tmp_path, given=given)
    assert "Going on where it stopped: " in answer.err
    assert files(tmp_path / "data") == files(tmp_path / "clean")
    assert not list(tmp_path.glob(".*"))


def test_instructions_become_text_by_the_template(tmp_path: Path, shared_data: Path) -> None:
    real = shared_data / "instructions" / "instruction_data_1100.json"
    chats = [
        {"messages": [{"role": "user", "content": f"Q{i}"}, {"role": "assistant", "content": "A"}]}
        for i in range(100)
    ]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(chat) + "\n" for chat in chats))
    prepare(real, "chats.jsonl", "--render", "alpaca", "--out", "data", *BYTES, cwd=tmp_path)
    # Written out once more: the format that Stanford published.
    task = "Below is an instruction that describes a task"
    ask = "rite a response that appropriately completes the request."
    expected = []
    for record in json.loads(real.read_text()):
        given = record["input"]
        paired = ", paired with an input that provides further context. W" if given else ". W"
        text = f"{task}{paired}{ask}\n\n### Instruction:\n{record['instruction']}"
        text += f"\n\n### Input:\n{given}" if given else ""
        expected.append(f"{text}\n\n### Response:\n{record['output']}")
    assert documents(tmp_path / "data", "instruction_data_1100") == sorted(expected)
    assert documents(tmp_path / "data", "chats")[0] == (
        f"{task}. W{ask}\n\n### Instruction:\nQ0\n\n### Response:\nA"
    )


def test_shards_of_others_are_taken_as_they_are(
    tmp_path: Path, gpt2_vocabulary: Path, gpt2
) -> None:
    wanted = texts(100)
    ids = np.array([i for text in wanted for i in (*gpt2.encode(text), gpt2.eot_id)], np.uint16)
    ids.tofile(tmp_path / "nanogpt.bin")
    header = struct.pack("<256i", 20240520, 1, len(ids), *[0] * 253)
    (tmp_path / "llmc.bin").write_bytes(header + ids.tobytes())
    np.save(tmp_path / "edufineweb_train_000001.npy", ids)
    save_file({"tokens": ids.astype(np.int32)}, tmp_path / "tokens.safetensors")
    names = ["nanogpt.bin", "llmc.bin", "edufineweb_train_000001.npy", "tokens.safetensors"]
    prepare(*names, "--out", "data", "--tokenizer", "gpt2", "--val-fraction", "0.2", cwd=tmp_path)
    prepare(*names, "--out", "path", "--tokenizer", "data", "--val-fraction", "0.2", cwd=tmp_path)
    sources = [source.name for source in load_manifest(tmp_path / "data").sources]
    assert len(sources) == 4
    for source in sources:
        assert documents(tmp_path / "data", source) == sorted(wanted)
    assert tokens_of(tmp_path / "path") == tokens_of(tmp_path / "data")


def test_real_parquet_files_come_out_as_their_maker_counted(
    tmp_path: Path, shared_data: Path, gpt2_vocabulary: Path
) -> None:
    answer = prepare(
        shared_data / "pep", "--out", "data", "--val-fraction", "0.05", "--json", cwd=tmp_path
    )
    manifest = load_manifest(tmp_path / "data")
    count = {
        q: sum(manifest.total(q, s) for s in ("train", "val")) for q in ("documents", "tokens")
    }
    # 736 documents of 4,081,958 GPT-2 tokens, says the folder's own account; and as many ends.
    assert count == {"documents": 736, "tokens": 4_081_958 + 736}
    assert json.loads(answer.out)["train"]["tokens"] == manifest.total("tokens", "train")


def test_a_paragraph_is_a_document_where_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"One.\nStill one.\r\n\r\n\r\nTwo.\n \nThree.\n\n" * 20)
    command = ["a.txt", "--documents", "paragraph", "--out", "data"]
    prepare(*command, "--tokenizer", "bytes", "--no-validation", cwd=tmp_path)
    assert documents(tmp_path / "data") == sorted(["One.\nStill one.", "Two.", "Three."] * 20)


def test_what_is_bad_is_left_out_counted_and_listed(tmp_path: Path) -> None:
    write_texts(tmp_path / "texts", texts(120))
    (tmp_path / "texts/latin.txt").write_bytes(b"Stra\xdfe")
    (tmp_path / "texts/cut.txt.gz").write_bytes(gzip.compress(b"text " * 100)[:-5])
    good = lines(texts(50, "record"))
    (tmp_path / "some.jsonl").write_bytes(good + b'{"text": 5}\n{"no text": ""}\n{"tex\n' + good)
    command = ["texts", "some.jsonl", *BYTES, "--on-bad", "skip", "--out"]
    answer = prepare(*command, "data", cwd=tmp_path)
    places = ("texts/latin.txt, byte 4: not UTF-8", "texts/cut.txt.gz", "some.jsonl, line 51: ",
              "some.jsonl, line 52: ", "some.jsonl, line 53, column ")  # fmt: skip
    assert "5 files or records were skipped:" in answer.err
    for place in places:
        assert place in answer.out
    said = json.loads(prepare(*command, "again", "--json", cwd=tmp_path).out)
    assert said["n_skipped"] == 5
    assert [": ".join(item) for item in said["skipped"]] == [
        line.strip() for line in answer.out.splitlines() if line.startswith("  texts/cut")
        or line.startswith(("  texts/latin", "  some.jsonl, line"))
    ]  # fmt: skip
    assert documents(tmp_path / "data", "some") == sorted(texts(50, "record") * 2)
    refused = run("prepare", *command[:-3], "--out", "strict", cwd=tmp_path)
    assert refused.code == 2
    assert "texts/cut.txt.gz" in refused.err
    assert not (tmp_path / "strict/manifest.json").exists()


def test_parts_join_into_what_one_process_writes_without_the_duplicates(tmp_path: Path) -> None:
    one, two = texts(150), texts(150, "story")
    # Long enough for one changed word to leave them near.
    long = [" ".join(f"word{i * j % 97}" for j in range(1, 200)) for i in range(1, 60)]
    near = [text.replace("word5 ", "other ", 1) for text in long]
    write_texts(tmp_path / "one", one + long)
    write_texts(tmp_path / "two", near + one[:40] + two)
    command = ["prepare", "one", "two", *BYTES, "--shard-tokens", "9000", "--dedup"]
    for dedup, least, most in (("exact", 40, 45), ("near", 95, 400)):
        whole = run(*command, dedup, "--out", dedup, "--json", cwd=tmp_path)
        assert least <= json.loads(whole.out)["duplicates"] <= most
        for i in range(3):
            part = ["--part", f"{i}/3", "--out", f"{dedup}-{i}"]
            told = run(*command, dedup, *part, cwd=tmp_path)
            assert "fromscratch data merge PART" in told.out, told
        parts = [f"{dedup}-{i}" for i in (2, 0, 1)]
        joined = run("data", "merge", *parts, "--out", f"{dedup}-all", "--json", cwd=tmp_path)
        assert joined.code == 0, joined
        assert files(tmp_path / f"{dedup}-all") == files(tmp_path / dedup)
        assert json.loads(joined.out)["fingerprint"] == json.loads(whole.out)["fingerprint"]
    kept = files(tmp_path / "exact-0")
    into_itself = run(
        "data", "merge", "exact-0", "exact-1", "exact-2", "--out", "exact-0", "--overwrite",
        cwd=tmp_path,
    )  # fmt: skip
    assert into_itself.code == 2
    assert "one of the parts" in into_itself.err
    assert files(tmp_path / "exact-0") == kept


def test_data_is_replaced_on_demand_only(tmp_path: Path) -> None:
    write_texts(tmp_path / "texts", texts(120))
    command = ["texts", "--out", "data", *BYTES]
    prepare(*command, "--shard-tokens", "1000", cwd=tmp_path)
    before = files(tmp_path / "data")
    # Nobody is to pipe a gigabyte in vain.
    refused = run("prepare", "-", *command[1:], cwd=tmp_path, given=b"text")
    assert refused.code == 2
    assert "--overwrite" in refused.err
    assert files(tmp_path / "data") == before
    prepare(*command, "--overwrite", cwd=tmp_path)
    prepare("texts", "--out", "clean", *BYTES, cwd=tmp_path)
    assert files(tmp_path / "data") == files(tmp_path / "clean")


@pytest.mark.parametrize("spec", ["texts", "texts/**", "."])
def test_the_output_may_lie_inside_a_source(spec: str, tmp_path: Path) -> None:
    """It is no text of the source, not when it is replaced either."""
    write_texts(tmp_path / "texts", texts(120))
    command = [spec, "--out", "texts/data", *BYTES]
    prepare(*command, cwd=tmp_path)
    assert documents(tmp_path / "texts/data") == sorted(texts(120))
    prepare(*command, "--overwrite", cwd=tmp_path)
    assert documents(tmp_path / "texts/data") == sorted(texts(120))


def test_the_printed_command_finishes_an_interrupted_preparation(tmp_path: Path) -> None:
    """With every option set to something unusual, and names that a shell would take apart."""
    records = texts(6_000)
    (tmp_path / "it's [one] $HOME").mkdir()
    (tmp_path / "it's [one] $HOME/a b.jsonl").write_bytes(lines(records, "meta text"))
    (tmp_path / 'the "other".jsonl').write_bytes(lines(records[:70] + texts(900, "x"), "meta text"))
    (tmp_path / "plain.txt").write_text(" ".join(records[:500]))
    own = ["plain.txt", "--vocab-size", "300", "--out", "own tokens"]
    assert run("tokenizer", "train", *own, cwd=tmp_path).code == 0
    out = "out; 'here' & there"
    command = [
        "prepare", "my name=it's [one] $HOME", 'the "other".jsonl', "--out", out,
        "--tokenizer", "own tokens", "--val-fraction", "0.137", "--documents", "passage",
        "--dedup", "exact", "--field", "meta text", "--on-bad", "skip", "--keep-local", "1.5MB",
        "--hub-cache", "a cache", "--part", "0/1", "--seed", "77", "--shard-tokens", "5000",
    ]  # fmt: skip
    process = start(*command, cwd=tmp_path)
    wait_for_shards(process, tmp_path / out, 4)
    process.kill()
    process.communicate()
    refused = run("data", "merge", out, "--out", "merged", cwd=tmp_path)
    assert refused.code == 2
    told = shlex.split(refused.err.split("Run it again: ")[1])
    assert told[0] == "fromscratch"
    finished = run(*told[1:], cwd=tmp_path)
    assert finished.code == 0, finished
    assert "Going on where it stopped: " in finished.err
    command[command.index(out)] = "clean"
    assert run(*command, cwd=tmp_path).code == 0
    assert files(tmp_path / out) == files(tmp_path / "clean")
