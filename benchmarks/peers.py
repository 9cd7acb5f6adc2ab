"""nanoGPT as a peer: read from a clone that is named, never copied into this repository."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_argument(parser: argparse.ArgumentParser) -> None:
    """The option that names the clone."""
    parser.add_argument(
        "--nanogpt",
        type=Path,
        required=True,
        help="a clone of github.com/karpathy/nanoGPT (Karpathy 2022)",
    )


def import_model(folder: Path):
    """Its module `model`."""
    if not (folder / "model.py").is_file():
        sys.exit(f"{folder} is not a clone of nanoGPT: it has no model.py")
    sys.path.insert(0, str(folder))
    import model

    return model
