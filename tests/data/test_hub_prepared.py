"""Data sets on the hub as sources of `prepare`: whole, and in parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hub_material import lines
from hub_server import HubServer

from fromscratch.data.hub import HubDataset
from fromscratch.data.merge import merge
from fromscratch.data.options import Part
from fromscratch.data.prepare import prepare
from fromscratch.data.sources import Source
from tests.data.preparing import files, settings


def add_sets(hub: HubServer) -> int:
    """Puts two data sets of four files on the hub; returns the bytes of their text."""
    size = 0
    for name in ("one", "two"):
        made = {}
        for n in range(4):
            texts = [f"{name} {n} text {i} " + "word " * (i % 50) for i in range(80)]
            made[f"data/train-{n}.jsonl"] = lines(texts)
            size += sum(len(text) for text in texts)
        hub.add(f"a/{name}", made)
    return size


def test_parts_of_data_sets_are_the_whole_and_fetch_their_own_files(
    hub: HubServer, open_set: Callable[..., HubDataset], tmp_path: Path
) -> None:
    size = add_sets(hub)

    def sources(computer: str) -> list[Source]:
        return [
            Source(name, spec, hub=open_set(spec, folder=tmp_path / computer))
            for name, spec in (("one", "hf:a/one"), ("two", "hf:a/two"))
        ]

    whole = prepare(sources("one"), tmp_path / "whole", settings())
    assert [s.documents for s in whole.manifest.sources] == [320, 320]
    assert sum(s.bytes for s in whole.manifest.sources) == size
    folders = [tmp_path / f"part-{i}" for i in range(3)]
    fetched = []
    for i, folder in enumerate(folders):
        hub.seen.clear()
        of_this_part = sources(f"computer-{i}")
        prepare(of_this_part, folder, settings(), part=Part(i, 3))
        for source in of_this_part:
            assert source.hub is not None
            source.hub.close()
        fetched.append({seen.path for seen in hub.fetches("/resolve/")})
    merge(folders, tmp_path / "merged")
    assert files(tmp_path / "merged") == files(tmp_path / "whole")
    for paths in fetched:
        # A third of eight files, and the one behind them, which may have been fetched ahead.
        assert len([path for path in paths if "train-" in path]) <= 4, paths
    assert not any("a/one/" in path and "train-" in path for path in fetched[2])
