"""Real servers, with a model that knows a few lines by heart, or one that writes without end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from fromscratch.checkpoint.bundle import ModelBundle
from tests.serve.live import Live, serving
from tests.serve.parrot import endless, parrot

Serve = Callable[..., AbstractContextManager[Live]]


@pytest.fixture(scope="session")
def parrot_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The parrot, in a model folder."""
    folder = tmp_path_factory.mktemp("models") / "parrot"
    parrot(folder)
    return folder


@pytest.fixture(scope="session")
def talker() -> ModelBundle:
    """A base model that never ends by itself, if end-of-text is forbidden."""
    return endless()


@pytest.fixture(scope="module")
def live(parrot_folder: Path) -> Iterator[Live]:
    """The parrot behind its address."""
    with serving(parrot_folder) as found:
        yield found


@pytest.fixture(scope="module")
def based(talker: ModelBundle) -> Iterator[Live]:
    """The base model behind its address."""
    with serving(talker) as found:
        yield found
