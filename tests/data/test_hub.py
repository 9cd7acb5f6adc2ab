"""Bytes from the hub: the library's real client against a server that speaks the hub's protocol."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hub_material import card, noise, parquet, shards
from hub_server import Trouble
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fromscratch.data.hub import Patience
from fromscratch.foundation.errors import UserError

A = parquet(["one", "two"])


# --- bytes that arrive ----------------------------------------------------------------------------


def test_a_line_that_drops_twice_goes_on_where_it_broke(hub, open_set):
    content = noise(500_000)
    hub.add("a/b", {"train.parquet": content})
    hub.trouble.append(Trouble("/cdn/", "drop", after=200_000))
    hub.trouble.append(Trouble("/cdn/", "drop", after=100_000))
    dataset = open_set("hf:a/b")
    with dataset.local(dataset.files()[0]) as path:
        assert path.read_bytes() == content
    fetches = hub.fetches()
    assert [f.range for f in fetches] == [None, "bytes=200000-", "bytes=300000-"]
    assert sum(f.sent for f in fetches) == 500_000  # no byte twice


@settings(
    max_examples=15,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # each example has its own file
)
@given(
    size=st.integers(1, 100_000),
    arriving=st.lists(st.integers(1, 60_000), max_size=4),
    seed=st.integers(0, 10**6),
)
def test_wherever_the_line_drops_the_file_arrives_and_no_byte_is_sent_twice(
    hub, open_set, tmp_path_factory, size, arriving, seed
):
    content = noise(size, seed)
    hub.add("a/b", {"train.parquet": content})
    hub.trouble[:] = [Trouble("/cdn/", "drop", after=n) for n in arriving]
    before = len(hub.fetches())
    dataset = open_set("hf:a/b", folder=tmp_path_factory.mktemp("copies"))
    with dataset.local(dataset.files()[0]) as path:
        assert path.read_bytes() == content
    assert sum(f.sent for f in hub.fetches()[before:]) == size


@pytest.mark.parametrize("how", ["seconds", "date", "rate limit header"])
def test_too_many_requests_waits_as_long_as_asked(hub, open_set, how):
    hub.add("a/b", {"train.parquet": noise(1000)})
    headers = {
        "seconds": {"Retry-After": "2"},
        "date": {
            "Retry-After": format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True)
        },
        "rate limit header": {"ratelimit": '"resolvers";r=0;t=2'},
    }[how]
    hub.trouble.append(Trouble("/cdn/", "status", status=429, headers=headers))
    dataset = open_set("hf:a/b")
    with dataset.local(dataset.files()[0]):
        pass
    refused, served = hub.fetches()
    assert (refused.status, served.status) == (429, 200)
    assert served.at - refused.at >= 1.9  # not a speed: the server's demand


def test_a_long_wait_is_announced(hub, open_set):
    said: list[str] = []
    hub.add("a/b", {"train.parquet": noise(1000)})
    hub.trouble.append(Trouble("/cdn/", "status", status=429, headers={"Retry-After": "4"}))
    dataset = open_set("hf:a/b", patience=Patience(3, 0.01, said.append))
    with dataset.local(dataset.files()[0]):
        pass
    assert said == ["Waiting 4 s before asking the hub again (The hub asks for it)."]


def test_a_wait_of_hours_ends_in_a_sentence(hub, open_set):
    hub.add("a/b", {"train.parquet": noise(1000)})
    hub.trouble.append(Trouble("/cdn/", "status", status=429, headers={"Retry-After": "7200"}))
    dataset = open_set("hf:a/b")
    with pytest.raises(UserError, match="asks to wait 120 minutes"):
        dataset.local(dataset.files()[0]).__enter__()


@pytest.mark.parametrize("where", ["/api/datasets/a/b$", "/tree/", "/resolve/.*README", "/cdn/"])
def test_one_server_error_anywhere_is_passed_over(hub, open_set, where):
    hub.add("a/b", {"train.parquet": noise(1000), "README.md": card("license: mit")})
    hub.trouble.append(Trouble(where, "status", status=503))
    dataset = open_set("hf:a/b")
    with dataset.local(dataset.files()[0]) as path:
        assert path.stat().st_size == 1000
    assert hub.trouble[0].times == 0


def test_damaged_bytes_are_never_given_out(hub, open_set, tmp_path):
    content = noise(1000)
    hub.add("a/b", {"train.parquet": content, "small.txt": b"small"})
    hub.trouble.append(Trouble("/cdn/", "flip"))
    dataset = open_set("hf:a/b:*.parquet")
    with dataset.local(dataset.files()[0]) as path:
        assert path.read_bytes() == content
    hub.trouble.append(Trouble("small", "flip", times=9))
    dataset = open_set("hf:a/b:small.txt")
    with pytest.raises(UserError, match=r"small.txt of a/b arrives damaged"):
        dataset.local(dataset.files()[0]).__enter__()
    assert [p.name for p in (tmp_path / "copies").glob("*small.txt*")] == []


def test_an_answer_that_ignores_the_range_starts_the_file_over(hub, open_set):
    content = noise(300_000)
    hub.add("a/b", {"train.parquet": content})
    hub.trouble.append(Trouble("/cdn/", "drop", after=100_000))
    hub.trouble.append(Trouble("/cdn/", "whole"))
    dataset = open_set("hf:a/b")
    with dataset.local(dataset.files()[0]) as path:
        assert path.read_bytes() == content
    assert len(hub.fetches()) == 2  # it was put in the right place at once


def test_an_answer_that_ends_early_is_continued(hub, open_set):
    content = noise(300_000)
    hub.add("a/b", {"train.parquet": content})
    hub.trouble.append(Trouble("/cdn/", "stop-early", after=100_000))
    dataset = open_set("hf:a/b")
    with dataset.local(dataset.files()[0]) as path:
        assert path.read_bytes() == content
    assert [f.range for f in hub.fetches()] == [None, "bytes=100000-"]


def test_giving_up_keeps_what_arrived_and_says_so(hub, open_set):
    content = noise(300_000)
    hub.add("a/b", {"train.parquet": content})
    hub.trouble.append(Trouble("/cdn/", "drop", after=120_000))
    hub.trouble.append(Trouble("/cdn/", "status", times=3, status=502))
    dataset = open_set("hf:a/b")
    file = dataset.files()[0]
    with pytest.raises(UserError, match=r"HTTP 502.*goes on where it stopped"):
        dataset.local(file).__enter__()
    again = open_set("hf:a/b")
    with again.local(file) as path:
        assert path.read_bytes() == content
    assert hub.fetches()[-1].range == "bytes=120000-"


def test_a_file_that_is_shorter_at_the_hub_than_listed_is_refused(hub, open_set):
    hub.add("a/b", {"train.parquet": noise(1000)}).pretended["train.parquet"] = 5000
    dataset = open_set("hf:a/b")
    with pytest.raises(UserError, match="arrives damaged"):
        dataset.local(dataset.files()[0]).__enter__()


def test_whoever_waits_sees_the_bytes_arrive(hub, open_set):
    hub.add("a/b", shards(2))
    seen: list[tuple[str, int]] = []
    dataset = open_set("hf:a/b", on_bytes=lambda file, n: seen.append((file.path, n)))
    first = dataset.files()[0]
    with dataset.local(first, prefetch=False):
        pass
    assert {path for path, _ in seen} == {first.path}
    counts = [n for _, n in seen]
    assert counts == sorted(counts)
    assert counts[-1] == first.size


# --- one commit -----------------------------------------------------------------------------------


def test_a_data_set_that_changes_in_the_middle_is_read_as_it_was(hub, open_set):
    repo = hub.add("a/b", shards(3))
    old = repo.refs["main"]
    dataset = open_set("hf:a/b")
    files = dataset.files()
    with dataset.local(files[0], prefetch=False):
        new = {path: noise(200_000, 77) for path in repo.commits[old]}
        repo.commit(new)
    for file in files[1:]:
        with dataset.local(file) as path:
            assert path.read_bytes() == repo.commits[old][file.path]
    assert dataset.revision == old
    assert dataset.pinned == f"hf:a/b@{old}"
    again = open_set(dataset.pinned)
    assert again.files() == files
    assert open_set("hf:a/b").files() != files


def test_branches_and_tags_with_slashes(hub, open_set):
    repo = hub.add("a/b", {"a.txt": b"main"})
    repo.commit({"default/train/0000.parquet": A}, ref="refs/convert/parquet")
    dataset = open_set("hf:a/b:default@refs/convert/parquet")
    assert [f.path for f in dataset.files()] == ["default/train/0000.parquet"]
