"""One thread for tiny models, and what the tests of this folder share on the path."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

# What the tests of this folder share lies beside them, and pytest puts no folder on the path.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
