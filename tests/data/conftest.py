"""A hub on this machine for the tests of this folder, and data sets on it."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fromscratch.data.hub import HubDataset, Patience

# What the tests of this folder share lies beside them, and pytest puts no folder on the path.
sys.path.insert(0, str(Path(__file__).parent))
from hub_server import HubServer

# Trouble is plenty in these tests, and nobody has to wait for it to pass.
QUICK = Patience(attempts=3, first_pause=0.01, tell=lambda message: None)


@pytest.fixture
def open_set(hub: HubServer, tmp_path: Path) -> Iterator[Callable[..., HubDataset]]:
    """Opens data sets of that hub, with copies in `tmp_path / "copies"`."""
    opened = []

    def make(spec: str, keep_local: int = 10**9, **options: object) -> HubDataset:
        settings = {"endpoint": hub.endpoint, "patience": QUICK, "folder": tmp_path / "copies"}
        opened.append(HubDataset(spec, keep_local=keep_local, **(settings | options)))
        return opened[-1]

    yield make
    for dataset in opened:
        dataset.close()
