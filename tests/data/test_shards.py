"""The token stream against one plain array; manifests that were not ours, not whole or edited."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fromscratch.data.options import PrepareOptions
from fromscratch.data.prepare import prepare
from fromscratch.data.shards import Manifest, TokenStream, is_prepared, load_manifest, open_shard
from fromscratch.data.sources import Source
from fromscratch.foundation.errors import UserError

StreamMaker = Callable[..., TokenStream]
PIECES = st.lists(st.lists(st.integers(0, 65_535), min_size=1, max_size=30), min_size=1, max_size=5)


@given(pieces=PIECES, start=st.integers(-500, 500), length=st.integers(0, 400))
def test_reading_equals_indexing_one_array_as_a_circle(
    stream_of: StreamMaker, pieces: list[list[int]], start: int, length: int
) -> None:
    stream = stream_of(pieces)
    whole = np.concatenate([np.array(p, dtype=np.int64) for p in pieces])
    assert len(stream) == len(whole)
    read = stream.read(start, length)
    assert read.dtype == np.int64
    assert np.array_equal(read, whole[np.arange(start, start + length) % len(whole)])


@given(
    pieces=PIECES,
    starts=st.lists(st.integers(-500, 500), max_size=9),
    length=st.integers(0, 400),
)
def test_reading_rows_is_reading_each(
    stream_of: StreamMaker, pieces: list[list[int]], starts: list[int], length: int
) -> None:
    stream = stream_of(pieces)
    rows = stream.read_rows(np.array(starts, dtype=np.int64), length)
    assert rows.shape == (len(starts), length)
    for row, start in zip(rows, starts, strict=True):
        assert np.array_equal(row, stream.read(start, length))


def test_ids_beyond_16_bits(stream_of: StreamMaker) -> None:
    ids = [0, 65_535, 65_536, 4_000_000_000]
    assert stream_of([ids], dtype=np.uint32).read(0, 4).tolist() == ids


def test_a_stream_of_many_shards_keeps_few_files_open(stream_of: StreamMaker) -> None:
    """A mixture has a stream for each source; a process may have 1,024 files open, or 256."""
    listing = Path("/proc/self/fd")
    if not listing.is_dir():
        pytest.skip("open files cannot be counted on this system")
    stream = stream_of([[i, i] for i in range(300)])
    before = len(list(listing.iterdir()))
    for _ in range(2):
        assert stream.read(0, 600).tolist() == [i for i in range(300) for _ in "ab"]
    assert len(list(listing.iterdir())) - before <= 100


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("shards")
    texts = base / "texts"
    texts.mkdir()
    for i in range(40):
        (texts / f"{i:02}.txt").write_text(f"Text {i}: " + "word " * i)
    options = PrepareOptions(
        tokenizer="bytes", val_fraction=0.3, shard_tokens=700, documents="file"
    )
    prepare([Source("texts", str(texts))], base / "data", options)
    return base / "data"


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "data")


def edit(folder: Path, change: Callable[[dict], object]) -> None:
    content = json.loads((folder / "manifest.json").read_text())
    change(content)
    (folder / "manifest.json").write_text(json.dumps(content))


def test_a_manifest_survives_its_file(folder: Path, tmp_path: Path) -> None:
    manifest = load_manifest(folder)
    (tmp_path / "copy").mkdir()
    manifest.save(tmp_path / "copy")
    assert json.loads((tmp_path / "copy" / "manifest.json").read_text()) == json.loads(
        (folder / "manifest.json").read_text()
    )
    for shard in manifest.shards:
        shutil.copy(folder / shard.file, tmp_path / "copy")
    assert load_manifest(tmp_path / "copy") == manifest


def test_totals_are_what_the_files_hold(folder: Path) -> None:
    manifest = load_manifest(folder)
    assert len(manifest.select("train")) > 2
    for split in ("train", "val"):
        arrays = [np.load(folder / s.file) for s in manifest.select(split)]
        offsets = [np.load(folder / s.documents_file) for s in manifest.select(split)]
        assert manifest.total("tokens", split) == sum(len(a) for a in arrays)
        assert manifest.total("documents", split) == sum(len(o) - 1 for o in offsets)
        # With bytes as ids, all but the end-of-texts is a byte of text.
        text = sum(int((a != manifest.eot_id).sum()) for a in arrays)
        assert manifest.total("bytes", split) == text
        assert manifest.total("tokens", split, "texts") == manifest.total("tokens", split)
        assert manifest.total("tokens", split, "other") == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["shards"][0].update(tokens=m["shards"][0]["tokens"] + 1),
        lambda m: m["shards"].pop(),
        lambda m: m.update(eot_id=0),
        lambda m: m["sources"][0].update(documents=1),
        lambda m: m.update(seed=99),
        lambda m: m.pop("fingerprint"),
        lambda m: m.pop("shards"),
        lambda m: m.update(surprise=1),
        lambda m: m["shards"][0].pop("sha256"),
    ],
)
def test_an_edited_manifest_is_refused(folder: Path, change: Callable[[dict], object]) -> None:
    edit(folder, change)
    with pytest.raises(UserError, match="was edited"):
        load_manifest(folder)


def test_where_the_text_lay_is_not_part_of_the_fingerprint(folder: Path) -> None:
    before = load_manifest(folder).fingerprint
    edit(folder, lambda m: m["sources"][0].update(spec="/elsewhere"))
    assert load_manifest(folder).fingerprint == before


def test_another_format_version_is_refused(folder: Path) -> None:
    edit(folder, lambda m: m.update(format_version=9))
    with pytest.raises(UserError, match="format 9"):
        load_manifest(folder)


def test_a_manifest_that_is_not_json_is_refused(folder: Path) -> None:
    (folder / "manifest.json").write_text('{"format_version": 2, "tokenizer_fing')
    with pytest.raises(UserError, match="not readable JSON"):
        load_manifest(folder)


def test_a_folder_that_is_no_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not prepared data"):
        load_manifest(tmp_path)
    with pytest.raises(UserError, match="not prepared data"):
        load_manifest(tmp_path / "absent")
    assert not is_prepared(tmp_path)


def test_another_programs_manifest_is_not_taken_for_ours(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"name": "my web app", "icons": []}')
    assert not is_prepared(tmp_path)


@pytest.mark.parametrize("damage", ["shorter", "missing", "longer", "other type", "no array"])
def test_a_shard_that_is_not_what_the_manifest_says_is_found_when_the_data_is_opened(
    folder: Path, damage: str
) -> None:
    shard = load_manifest(folder).select("train")[1]
    path = folder / shard.file
    tokens = np.load(path)
    if damage == "shorter":
        path.write_bytes(path.read_bytes()[:-10])
    elif damage == "missing":
        path.unlink()
    elif damage == "longer":
        np.save(path, np.concatenate([tokens, tokens[:1]]))
    elif damage == "other type":
        np.save(path, tokens.astype(np.float32))
    else:
        path.write_bytes(b"not an array")
    with pytest.raises(UserError, match="Prepare the data again"):
        load_manifest(folder)
    with pytest.raises(UserError, match=path.name):
        open_shard(folder, shard)


def test_equal_tokens_with_other_bounds_are_other_data(folder: Path) -> None:
    manifest = load_manifest(folder)
    fields = {f: getattr(manifest, f) for f in Manifest.__dataclass_fields__}
    assert Manifest(**fields).fingerprint == manifest.fingerprint
    fields["shards"] = fields["shards"][:-1]
    assert Manifest(**fields).fingerprint != manifest.fingerprint
