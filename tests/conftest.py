"""What the tests of several rooms share: real data, GPT-2's vocabulary, token streams."""

from __future__ import annotations

import functools
import gc
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from fromscratch.data.shards import Shard, TokenStream
from fromscratch.foundation.files import sha256_of_file
from fromscratch.foundation.names import documents_file, shard_file
from fromscratch.tokenizer.build import gpt2_tokenizer
from fromscratch.tokenizer.tokenizer import Tokenizer
from tests.data.hub_server import HubServer
from tests.forking.forks import Forks, shared_forks

# Matrices this small gain nothing from more threads, and waiting for busy cores costs much; that is
# so in the processes that tests start, too. What several threads do to a resume is tested by
# processes that are given them (end_to_end/test_violence.py).
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"

# Where Python is told to keep no bytecode, each worker would rewrite every test's assertions anew,
# and each process that a test starts would compile the package.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# Collecting makes millions of objects that stay; looking through them again frees nothing.
gc.disable()

# A shell's background jobs ignore Ctrl-C from birth, and so would every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says nothing here: the first one imports, and the machine is shared.
settings.register_profile(
    "fromscratch", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("fromscratch")


class SharingModules(LoadScopeScheduling):  # type: ignore[misc]
    """Gives each worker a test at a time, but all of a module whose tests share a fixture.

    Each worker would make such a fixture anew, and some take longer than the tests.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.split("::")[0]
        return path if _shares_a_fixture(path) else nodeid


@functools.cache
def _shares_a_fixture(path: str) -> bool:
    return 'scope="module"' in (Path(__file__).parents[1] / path).read_text(encoding="utf-8")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is slow comes first, so that no worker sits over it when the others have finished."""
    marked = [i for i in items if i.get_closest_marker("slow") or i.get_closest_marker("long")]
    slow, shared = set(marked), {i.path for i in marked if _shares_a_fixture(str(i.path))}
    items.sort(key=lambda item: item not in slow and item.path not in shared)


def pytest_collection_finish() -> None:
    """What is there now stays to the end."""
    gc.enable()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """What the tests started ends with them."""
    shared_forks().close()


def pytest_xdist_auto_num_workers() -> int:
    """More than there are cores: a third of the time, tests wait for processes of their own."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (3 * (cores or 1) + 1) // 2


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> SharingModules:
    """What `-n` uses: in the order of the items, not by how many tests a module has."""
    config.option.loadscopereorder = False
    return SharingModules(config, log)


@pytest.fixture(autouse=True)
def _the_command_line_still_speaks() -> Iterator[None]:
    """A test that silences it, in this process, must not silence it for those that follow."""
    yield
    show = sys.modules.get("fromscratch.cli.show")
    if show is not None:
        silent = [console for console in (show.out, show.err) if console.quiet]
        for console in silent:
            console.quiet = False
        assert not silent, "this test silenced the command line"


@pytest.fixture(scope="session")
def forks() -> Forks:
    """What runs a command without starting Python and importing torch for it."""
    return shared_forks()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real text and logs; never part of the package."""
    named = os.environ.get("FROMSCRATCH_TEST_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(
            f"The real data is not at {folder}; set FROMSCRATCH_TEST_DATA to where it lies."
        )
    return folder


@pytest.fixture(scope="session")
def gpt2_vocabulary(shared_data: Path) -> Iterator[Path]:
    """Lets tiktoken find GPT-2's files without a network, also in child processes."""
    folder = shared_data / "gpt2-bpe"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(folder))
        yield folder


@pytest.fixture(scope="session")
def gpt2(gpt2_vocabulary: Path) -> Tokenizer:
    """GPT-2's tokenizer, made once."""
    return gpt2_tokenizer()


@pytest.fixture(scope="session")
def shakespeare(shared_data: Path) -> str:
    """1,115,394 characters."""
    return (shared_data / "shakespeare" / "tiny_shakespeare.txt").read_text(encoding="utf-8")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """An empty hub on this machine; nobody is logged in."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    with HubServer() as server:
        yield server


StreamMaker = Callable[[Sequence[Sequence[int]]], TokenStream]


@pytest.fixture(scope="session")
def stream_of(tmp_path_factory: pytest.TempPathFactory) -> StreamMaker:
    """Writes lists of ids as shards and opens them as one stream."""
    base = tmp_path_factory.mktemp("streams")

    def make(pieces: Sequence[Sequence[int]], *, dtype: type = np.uint16) -> TokenStream:
        folder = Path(tempfile.mkdtemp(dir=base))
        shards = []
        for index, piece in enumerate(pieces):
            path = folder / shard_file("train", index)
            np.save(path, np.array(piece, dtype=dtype))
            shards.append(
                Shard(
                    file=path.name,
                    documents_file=documents_file("train", index),
                    split="train",
                    source="made",
                    tokens=len(piece),
                    documents=1,
                    bytes=0,
                    sha256=sha256_of_file(path),
                )
            )
        return TokenStream(folder, shards)

    return make
