"""Text into shards: nothing lost, nothing on both sides, and whole or not there."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from fromscratch.data.documents import SPLITS, split_of
from fromscratch.data.options import PrepareOptions
from fromscratch.data.prepare import Prepared, prepare
from fromscratch.data.shards import Manifest, TokenStream, load_manifest
from fromscratch.data.sources import Reading, Source, SourceReport
from fromscratch.data.watching import Advance, Remark
from fromscratch.foundation.errors import UserError
from fromscratch.tokenizer.build import train_bpe
from fromscratch.tokenizer.tokenizer import Tokenizer, load_tokenizer


def options(**changes: object) -> PrepareOptions:
    return PrepareOptions(**({"tokenizer": "bytes", "val_fraction": 0.2} | changes))  # type: ignore[arg-type]


def write(folder: Path, texts: dict[str, str]) -> Source:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_bytes(text.encode("utf-8"))
    return Source(folder.name, str(folder))


def many(n: int = 60) -> dict[str, str]:
    return {f"{i:03}.txt": f"Document {i}\n" + "some words\n" * (i % 7) for i in range(n)}


def documents(folder: Path, split: str) -> Iterator[bytes]:
    """The split's documents as the shards hold them."""
    manifest, tokenizer = load_manifest(folder), load_tokenizer(folder)
    for shard in manifest.select(split):
        tokens = np.load(folder / shard.file)
        offsets = np.load(folder / shard.documents_file)
        assert offsets[0] == 0
        assert offsets[-1] == len(tokens)
        size = 0
        for start, end in pairwise(offsets):
            ids = tokens[start:end].tolist()
            assert ids[-1] == tokenizer.eot_id
            assert tokenizer.eot_id not in ids[:-1]
            text = tokenizer.decode_bytes(ids)
            size += len(text)
            yield text
        assert shard.bytes == size


def files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def read_back(made: Prepared) -> Counter[bytes]:
    return Counter(d for split in SPLITS for d in documents(made.folder, split))


class TestWhatIsWritten:
    @pytest.mark.parametrize("tokenizer", ["bytes", "chars", "bpe:300"])
    @pytest.mark.parametrize("shard_tokens", [1, 500, 10**6])
    def test_decoding_all_shards_gives_every_document_byte_for_byte(
        self, tmp_path: Path, tokenizer: str, shard_tokens: int
    ) -> None:
        texts = many() | {"odd.txt": "na\u00efve \U0001f600 <|endoftext|> \u4f60\u597d\n\t end  "}
        source = write(tmp_path / "texts", texts)
        made = prepare(
            [source],
            tmp_path / "data",
            options(tokenizer=tokenizer, shard_tokens=shard_tokens, documents="file"),
        )
        assert read_back(made) == Counter(t.encode() for t in texts.values())
        assert made.manifest.total("documents", "val") > 3
        if shard_tokens == 1:
            assert len(made.manifest.shards) == len(texts)

    def test_real_text_with_gpt2(self, tmp_path: Path, shakespeare: str, gpt2: Tokenizer) -> None:
        (tmp_path / "tiny.txt").write_text(shakespeare)
        made = prepare(
            [Source("tiny", str(tmp_path / "tiny.txt"))],
            tmp_path / "data",
            options(tokenizer="gpt2", val_fraction=0.05, shard_tokens=50_000),
        )
        train, val = (list(documents(made.folder, s)) for s in ("train", "val"))
        assert sorted(b"".join(train + val)) == sorted(shakespeare.encode())
        assert all(d.decode() in shakespeare for d in train + val)
        assert 0.01 < len(val) / len(train + val) < 0.1
        total = sum(made.manifest.total("bytes", s) for s in SPLITS)
        assert total == made.manifest.sources[0].bytes == len(shakespeare.encode())
        # Not a tail: what is held out lies in every third of the text.
        places = [shakespeare.index(d.decode()) / len(shakespeare) for d in val]
        assert min(places) < 1 / 3
        assert max(places) > 2 / 3
        # GPT-2 has 338,025 tokens for this file; a cut after a blank line can save or cost one.
        count = made.manifest.sources[0].documents
        tokens = sum(made.manifest.total("tokens", s) for s in SPLITS) - count
        assert abs(tokens - 338_025) <= count

    def test_a_document_and_its_copies_are_on_one_side(self, tmp_path: Path) -> None:
        texts = many(80)
        copies = {f"copy-{name}": text for name, text in texts.items()}
        crlf = {f"crlf-{name}": text.replace("\n", "\r\n") for name, text in texts.items()}
        sources = [write(tmp_path / "one", texts | copies), write(tmp_path / "two", copies | crlf)]
        made = prepare(sources, tmp_path / "data", options(documents="file"))
        train, val = (Counter(documents(made.folder, s)) for s in ("train", "val"))
        assert not set(train) & set(val)
        assert set((train + val).values()) == {4}
        assert len(val) > 5

    def test_the_split_is_that_of_the_text(self, tmp_path: Path) -> None:
        source = write(tmp_path / "texts", many())
        made = prepare([source], tmp_path / "data", options(documents="file", seed=9))
        for split in SPLITS:
            for document in documents(made.folder, split):
                assert split_of(document.decode(), val_fraction=0.2, seed=9) == split

    def test_the_split_of_half_characters_is_that_of_what_is_encoded(self, tmp_path: Path) -> None:
        # A tokenizer is trained on what `split_of` says is not held out: it must say the same.
        texts = [f"text {i} \ud83d half, and \ud83d\ude00 in two halves" for i in range(200)]
        lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        (tmp_path / "texts.jsonl").write_text(lines)
        source = Source("s", str(tmp_path / "texts.jsonl"))
        made = prepare([source], tmp_path / "data", options(seed=9))
        sides = [split_of(text, val_fraction=0.2, seed=9) for text in texts]
        for split in SPLITS:
            assert made.manifest.total("documents", split) == sides.count(split)
            wanted = [t for t, side in zip(texts, sides, strict=True) if side == split]
            # Only the number in each text differs.
            found = [d.decode().split()[1] for d in documents(made.folder, split)]
            assert found == [t.split()[1] for t in wanted]

    def test_sources_keep_their_own_shards(self, tmp_path: Path) -> None:
        one = write(tmp_path / "one", many(40))
        two = write(tmp_path / "two", {n: "Other " + t for n, t in many(50).items()})
        made = prepare([one, two], tmp_path / "data", options(documents="file", shard_tokens=800))
        manifest = made.manifest
        for source, count in ((one, 40), (two, 50)):
            shards = [s for split in SPLITS for s in manifest.select(split, source.name)]
            assert sum(s.documents for s in shards) == count
        assert sum(manifest.total("tokens", "train", s.name) for s in (one, two)) == manifest.total(
            "tokens", "train"
        )
        assert len({s.file for s in manifest.shards}) == len(manifest.shards)
        assert [s.documents for s in manifest.sources] == [40, 50]

    def test_the_last_shard_is_written_however_small(self, tmp_path: Path) -> None:
        texts = {f"{i:03}": "x" * 99 for i in range(95)} | {"last": "y"}
        source = write(tmp_path / "texts", {n: n + t for n, t in texts.items()})
        made = prepare(
            [source],
            tmp_path / "data",
            options(documents="file", shard_tokens=1000, val_fraction=0.1),
        )
        for split in SPLITS:
            shards = made.manifest.select(split)
            assert all(s.tokens >= 1000 for s in shards[:-1])
            assert shards[-1].tokens > 0
        assert sum(read_back(made).values()) == 96

    def test_the_stream_is_the_documents_in_order(self, tmp_path: Path) -> None:
        source = write(tmp_path / "texts", many())
        made = prepare([source], tmp_path / "data", options(documents="file", shard_tokens=300))
        stream = TokenStream(made.folder, made.manifest.select("train"))
        expected = [
            i
            for text in many().values()
            if split_of(text, val_fraction=0.2, seed=0) == "train"
            for i in [*text.encode(), 256]
        ]
        assert stream.read(0, len(stream)).tolist() == expected
        assert stream.read(-1, 1).tolist() == [256]  # what the first token is predicted from

    def test_end_of_text_inside_a_document_stays_text(
        self, tmp_path: Path, gpt2: Tokenizer
    ) -> None:
        nasty = "before<|endoftext|>after <|endoftext|>\n<|endoftext|>"
        texts = {f"{i}.txt": f"{i} {nasty}" for i in range(30)}
        made = prepare(
            [write(tmp_path / "texts", texts)],
            tmp_path / "data",
            options(tokenizer="gpt2", documents="file"),
        )
        assert read_back(made) == Counter(t.encode() for t in texts.values())
        stream = np.concatenate([np.load(made.folder / s.file) for s in made.manifest.shards])
        assert np.count_nonzero(stream == 50256) == 30

    def test_ids_take_two_bytes_where_they_fit_and_four_where_not(self, tmp_path: Path) -> None:
        source = write(tmp_path / "texts", many())
        small = prepare([source], tmp_path / "small", options(documents="file"))
        assert np.load(small.folder / small.manifest.shards[0].file).dtype == np.uint16
        characters = "".join(
            chr(c) for c in range(0x4E00, 0x4E00 + 70_000) if not 0xD800 <= c < 0xE000
        )
        wide = write(tmp_path / "wide", many() | {"all.txt": characters})
        large = prepare([wide], tmp_path / "large", options(documents="file", tokenizer="chars"))
        assert large.manifest.vocab_size > 2**16
        assert np.load(large.folder / large.manifest.shards[0].file).dtype == np.uint32
        assert characters.encode() in read_back(large)

    def test_merges_are_learned_from_the_training_side_alone(self, tmp_path: Path) -> None:
        texts = many()
        held_out = [t for t in texts.values() if split_of(t, val_fraction=0.2, seed=0) == "val"]
        assert held_out
        train = [t for t in texts.values() if t not in held_out]
        made = prepare(
            [write(tmp_path / "texts", texts)],
            tmp_path / "data",
            options(tokenizer="bpe:300", documents="file"),
        )
        assert made.manifest.tokenizer_fingerprint == train_bpe(train, vocab_size=300).fingerprint
        assert load_tokenizer(made.folder).fingerprint == made.manifest.tokenizer_fingerprint

    def test_characters_that_only_held_out_text_has_can_be_encoded(self, tmp_path: Path) -> None:
        texts = many() | {f"{i}": chr(0x4E00 + i) * 20 for i in range(50)}
        made = prepare(
            [write(tmp_path / "texts", texts)],
            tmp_path / "data",
            options(tokenizer="chars", documents="file"),
        )
        assert read_back(made) == Counter(t.encode() for t in texts.values())


class TestSameAndDifferent:
    def test_the_same_text_gives_the_same_bytes(self, tmp_path: Path) -> None:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            source = write(tmp_path / name / "texts", many())
            prepare(
                [source], tmp_path / name / "data", options(tokenizer="bpe:290", shard_tokens=400)
            )
        one, two = (files(tmp_path / name / "data") for name in ("one", "two"))
        manifests = [one.pop("manifest.json"), two.pop("manifest.json")]
        assert one == two
        # The manifests differ in where the text lay, and in nothing that the fingerprint covers.
        assert manifests[0].replace(b"/one/", b"/two/") == manifests[1]
        prints = {load_manifest(tmp_path / n / "data").fingerprint for n in ("one", "two")}
        assert len(prints) == 1

    def test_any_change_of_text_or_settings_changes_the_fingerprint(self, tmp_path: Path) -> None:
        def fingerprint(name: str, texts: dict[str, str], **changes: object) -> str:
            source = write(tmp_path / name / "texts", texts)
            made = prepare([source], tmp_path / name / "data", options(**changes))
            return made.manifest.fingerprint

        texts = many()
        changed = texts | {"007.txt": texts["007.txt"] + "."}
        renamed = {"999.txt" if n == "007.txt" else n: t for n, t in texts.items()}
        prints = [
            fingerprint("a", texts),
            fingerprint("b", changed),
            fingerprint("c", renamed),  # another order
            fingerprint("d", {n: t for n, t in texts.items() if n != "007.txt"}),
            fingerprint("e", texts, seed=1),
            fingerprint("f", texts, val_fraction=0.3),
            fingerprint("g", texts, tokenizer="chars"),
            fingerprint("h", texts, shard_tokens=400),
            fingerprint("i", texts, documents="file"),
        ]
        # Files this small are one passage each, so "auto" and "file" are the same data.
        assert prints.pop() == prints[0]
        assert len(set(prints)) == len(prints)


class TestRefusals:
    def test_no_text_is_an_error_with_the_reasons(self, tmp_path: Path) -> None:
        (tmp_path / "texts").mkdir()
        source = Source("texts", str(tmp_path / "texts"))
        with pytest.raises(UserError, match="There is no text"):
            prepare([source], tmp_path / "data", options())
        (tmp_path / "texts" / "photo.jpg").write_bytes(b"\xff\xd8\xff\x00")
        (tmp_path / "texts" / "blank.txt").write_text("\n")
        with pytest.raises(UserError, match=r"photo\.jpg: binary") as caught:
            prepare([source], tmp_path / "data", options())
        assert "blank.txt: empty" in str(caught.value)
        assert not (tmp_path / "data").exists()

    def test_shards_of_which_nothing_is_left_are_an_error(self, tmp_path: Path) -> None:
        np.save(tmp_path / "ids.npy", np.full(1_000, 60_000, dtype=np.uint16))
        source = Source("ids", str(tmp_path / "ids.npy"), Reading(on_bad="skip"))
        with pytest.raises(UserError, match="nothing to prepare"):
            prepare([source], tmp_path / "data", options())
        assert not list((tmp_path / "data").glob("*"))

    def test_skipped_files_are_counted_in_the_manifest(self, tmp_path: Path) -> None:
        source = write(tmp_path / "texts", many())
        (tmp_path / "texts" / "zzz.bin").write_bytes(b"\x00\x01")
        made = prepare([source], tmp_path / "data", options(documents="file"))
        assert made.manifest.sources[0].files_skipped == 1
        assert [reason for _, reason in made.skipped["texts"]] == ["binary"]

    @pytest.mark.parametrize("fraction", [-0.1, 1.0, 7.0, float("nan")])
    def test_a_share_that_is_none(self, tmp_path: Path, fraction: float) -> None:
        with pytest.raises(UserError, match="not between 0 and 1"):
            prepare([write(tmp_path / "t", many())], tmp_path / "d", options(val_fraction=fraction))

    def test_no_validation_only_on_purpose(self, tmp_path: Path) -> None:
        source = write(tmp_path / "texts", many())
        with pytest.raises(UserError, match="--no-validation"):
            prepare([source], tmp_path / "data", options(val_fraction=0.0))
        assert not (tmp_path / "data").exists()
        made = prepare(
            [source], tmp_path / "data", options(val_fraction=0.0, allow_no_validation=True)
        )
        assert made.manifest.select("val") == []
        assert sum(read_back(made).values()) == 60

    def test_a_split_that_came_out_empty_is_said(self, tmp_path: Path) -> None:
        source = write(tmp_path / "texts", {"one.txt": "A single short text."})
        with pytest.raises(UserError, match="None of the 1 documents"):
            prepare([source], tmp_path / "data", options(val_fraction=0.0001))
        with pytest.raises(UserError, match="nothing to train on"):
            prepare([source], tmp_path / "data", options(val_fraction=0.9999))

    def test_shards_of_no_tokens(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="--shard-tokens 0"):
            prepare([write(tmp_path / "t", many())], tmp_path / "d", options(shard_tokens=0))

    def test_finished_data_is_replaced_only_on_request(self, tmp_path: Path) -> None:
        first, second = write(tmp_path / "a", many()), write(tmp_path / "b", many(70))
        prepare([first], tmp_path / "data", options(shard_tokens=300))
        (tmp_path / "data" / "embeddings.npy").write_bytes(b"mine")
        before = files(tmp_path / "data")
        with pytest.raises(UserError, match="--overwrite"):
            prepare([second], tmp_path / "data", options())
        assert files(tmp_path / "data") == before
        made = prepare([second], tmp_path / "data", options(), overwrite=True)
        assert sum(read_back(made).values()) == 70
        prepare([second], tmp_path / "clean", options())
        after = files(tmp_path / "data")
        assert after.pop("embeddings.npy") == b"mine"
        assert after == files(tmp_path / "clean")

    @pytest.mark.parametrize(
        "mistake", [{"tokenizer": "gtp2"}, {"tokenizer": "bpe:9"}, {"val_fraction": 2.0}, {}]
    )
    def test_a_mistake_costs_no_older_data(
        self, tmp_path: Path, mistake: dict[str, object]
    ) -> None:
        source = write(tmp_path / "texts", many())
        prepare([source], tmp_path / "data", options())
        before = files(tmp_path / "data")
        wrong = source if mistake else Source("texts", str(tmp_path / "absent"))
        with pytest.raises(UserError):
            prepare([wrong], tmp_path / "data", options(**mistake), overwrite=True)
        assert files(tmp_path / "data") == before

    @pytest.mark.parametrize(
        "name", ["notes.txt", "manifest.json", "INCOMPLETE", "train-00000.npy"]
    )
    @pytest.mark.parametrize("overwrite", [False, True])
    def test_a_folder_that_is_not_ours_is_left_alone(
        self, tmp_path: Path, name: str, overwrite: bool
    ) -> None:
        source = write(tmp_path / "texts", many())
        foreign = tmp_path / "foreign"
        foreign.mkdir()
        (foreign / name).write_text('{"name": "not ours"}')
        with pytest.raises(UserError, match="nothing was touched"):
            prepare([source], foreign, options(), overwrite=overwrite)
        assert files(foreign) == {name: b'{"name": "not ours"}'}

    def test_out_is_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("text")
        with pytest.raises(UserError, match="is a file"):
            prepare([write(tmp_path / "t", many())], tmp_path / "file", options())

    def test_output_inside_the_source_is_not_read_as_text(self, tmp_path: Path) -> None:
        source = write(tmp_path / "texts", many())
        stamp = source.stamp()
        made = prepare([source], tmp_path / "texts" / "prepared", options(documents="file"))
        assert sum(read_back(made).values()) == 60
        assert source.stamp() == stamp
        assert len(list(source.documents(SourceReport()))) == 60


def tokens_done(event: Advance | Remark) -> int:
    """Documents that have become tokens."""
    return event.documents if isinstance(event, Advance) and event.stage == "tokens" else 0


class StopError(Exception):
    """Thrown into a preparation to end it."""


class TestInterrupted:
    @pytest.mark.parametrize("moment", [256, 512, 600])
    def test_what_is_left_is_refused_with_the_command_and_a_rerun_completes_it(
        self, tmp_path: Path, moment: int
    ) -> None:
        source = write(tmp_path / "texts", many(600))
        settings = options(tokenizer="bpe:280", documents="file", shard_tokens=2000)

        def stop_at(event: Advance | Remark) -> None:
            if tokens_done(event) >= moment:
                raise StopError

        with pytest.raises(StopError):
            prepare([source], tmp_path / "data", settings, watch=stop_at)
        assert (tmp_path / "data" / "INCOMPLETE").is_file()
        with pytest.raises(UserError, match="interrupted") as caught:
            load_manifest(tmp_path / "data")
        assert "fromscratch prepare" in str(caught.value)
        prepare([source], tmp_path / "data", settings)
        prepare([source], tmp_path / "clean", settings)
        assert files(tmp_path / "data") == files(tmp_path / "clean")

    def test_replacing_that_is_interrupted_leaves_no_old_manifest_over_new_shards(
        self, tmp_path: Path
    ) -> None:
        source = write(tmp_path / "texts", many(600))
        settings = options(documents="file", shard_tokens=2000)
        prepare([source], tmp_path / "data", settings)

        def stop_at(event: Advance | Remark) -> None:
            if tokens_done(event) >= 256:
                raise StopError

        changed = write(tmp_path / "other", {n: f"New {t}" for n, t in many(600).items()})
        with pytest.raises(StopError):
            prepare([changed], tmp_path / "data", settings, overwrite=True, watch=stop_at)
        assert not (tmp_path / "data" / "manifest.json").exists()
        with pytest.raises(UserError, match="interrupted"):
            load_manifest(tmp_path / "data")

    def test_during_the_tokenizer_nothing_is_written(self, tmp_path: Path) -> None:
        source = write(tmp_path / "texts", many())

        def stop(event: Advance | Remark) -> None:
            raise StopError

        with pytest.raises(StopError):
            prepare([source], tmp_path / "data", options(tokenizer="bpe:280"), watch=stop)
        assert not (tmp_path / "data").exists()

    def test_killed_between_the_manifest_and_the_end(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = write(tmp_path / "texts", many())
        save = Manifest.save

        def save_and_die(self: Manifest, folder: Path) -> None:
            save(self, folder)
            raise StopError

        monkeypatch.setattr(Manifest, "save", save_and_die)
        with pytest.raises(StopError):
            prepare([source], tmp_path / "data", options())
        monkeypatch.undo()
        # The manifest is written last, so the data is whole; and it can be replaced.
        assert load_manifest(tmp_path / "data").sources[0].documents == 60
        prepare([source], tmp_path / "data", options(), overwrite=True)
        assert not (tmp_path / "data" / "INCOMPLETE").exists()

    @pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
    def test_sigkill_and_the_command_that_the_message_gives(
        self, tmp_path: Path, shakespeare: str
    ) -> None:
        text = tmp_path / "tiny shakespeare.txt"
        text.write_text(shakespeare[:500_000])
        out = tmp_path / "data"
        command = ["fromscratch", "prepare", str(text), "--out", str(out)]
        command += ["--tokenizer", "bytes", "--shard-tokens", "2000", "--val-fraction", "0.1"]
        run = [sys.executable, "-m", "fromscratch"]
        child = subprocess.Popen(
            [*run, *command[1:]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while len(list(out.glob("train-*.npy"))) < 4 and time.monotonic() < deadline:
            time.sleep(0.001)
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert not (out / "manifest.json").exists(), "it was over before it could be killed"
        with pytest.raises(UserError, match="interrupted") as caught:
            load_manifest(out)
        assert caught.value.fix is not None
        again = shlex.split(caught.value.fix.removeprefix("Run it again: "))
        assert again[:2] == command[:2]
        subprocess.run([*run, *again[1:]], check=True, capture_output=True)
        subprocess.run(
            [*run, *command[1:4], str(tmp_path / "clean"), *command[5:]],
            check=True,
            capture_output=True,
        )
        assert files(out) == files(tmp_path / "clean")

    def test_a_run_without_validation_can_be_repeated_as_told(self, tmp_path: Path) -> None:
        source = write(tmp_path / "texts", many())

        def stop(event: Advance | Remark) -> None:
            raise StopError

        with pytest.raises(StopError):
            prepare(
                [Source("other name", source.spec)],
                tmp_path / "data",
                options(val_fraction=0.0, allow_no_validation=True, documents="file"),
                watch=stop,
            )
        told = shlex.split((tmp_path / "data" / "INCOMPLETE").read_text())
        subprocess.run(
            [sys.executable, "-m", "fromscratch", *told[1:]], check=True, capture_output=True
        )
        manifest = load_manifest(tmp_path / "data")
        assert manifest.sources[0].name == "other name"
        assert manifest.total("documents", "train") == 60


def test_the_embedded_corpus_in_a_reduced_form(tmp_path: Path) -> None:
    """Forty modules of the standard library, as `fromscratch try` would prepare them all."""
    whole = Source("stdlib", "stdlib").documents(SourceReport())
    texts = {f"{i:02}.py": d.text for i, d in zip(range(40), whole, strict=False)}
    made = prepare(
        [write(tmp_path / "texts", texts)],
        tmp_path / "data",
        options(tokenizer="bpe:512", documents="file"),
    )
    assert read_back(made) == Counter(t.encode() for t in texts.values())
    train, val = (set(documents(made.folder, s)) for s in SPLITS)
    assert not train & val
