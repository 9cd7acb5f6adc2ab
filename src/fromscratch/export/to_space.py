"""A model as a Hugging Face Space: a page to chat with it, which needs transformers and gradio.

In: a model. Out: a folder with app.py, requirements.txt, README.md and the model, which was read
back by transformers. It runs on the hub as it is, and at home with `python app.py`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch

from fromscratch import __version__
from fromscratch.checkpoint.bundle import ModelBundle
from fromscratch.export.comparing import Difference
from fromscratch.export.placing import new_folder
from fromscratch.export.to_hf import DType, check_transformers, checked_sentence, write_checked
from fromscratch.foundation.files import write_atomically
from fromscratch.foundation.names import CARD, SPACE_APP, SPACE_MODEL, SPACE_REQUIREMENTS
from fromscratch.report.numerals import count

GRADIO = "6.31.0"
"""The version that app.py was tried with."""


@dataclass(frozen=True)
class SpaceExport:
    """A Space that was written, its model read back.

    Attributes:
        path: The folder.
        n_bytes: Of all its files.
        reader: Between our network with the folder's numbers and what transformers made of them.
        rounding: Between the model as it was and as the folder holds it.
    """

    path: Path
    n_bytes: int
    reader: Difference
    rounding: Difference


def export_space(
    bundle: ModelBundle,
    out: Path,
    *,
    dtype: DType = "float32",
    name: str | None = None,
    licence: str | None = None,
) -> SpaceExport:
    """Writes a Space.

    Args:
        bundle: The model.
        out: The folder; not there yet.
        dtype: Of the weights.
        name: What the model is called; the folder's name if not given.
        licence: As the hub names it, where one was chosen.

    Raises:
        UserError: transformers cannot express the model, the folder is there or cannot be written,
            or what was read back is not the same model.
    """
    check_transformers()
    title = (name or out.name).rpartition("/")[2]
    numbers = sum(p.numel() for p in bundle.model.parameters())
    with new_folder(out, n_bytes=numbers * getattr(torch, dtype).itemsize) as folder:
        (folder / SPACE_MODEL).mkdir()
        _, reader, rounding = write_checked(folder / SPACE_MODEL, bundle, dtype)
        write_atomically(folder / SPACE_APP, app_text(title))
        write_atomically(folder / SPACE_REQUIREMENTS, _requirements())
        write_atomically(folder / CARD, _card(bundle, title, licence, checked_sentence(reader)))
        n_bytes = sum(path.stat().st_size for path in folder.rglob("*"))
    return SpaceExport(out, n_bytes, reader, rounding)


def app_text(title: str) -> str:
    """app.py with the page's title."""
    app = resources.files("fromscratch.export") / "space" / SPACE_APP
    return app.read_text("utf-8").replace(
        'TITLE = "A language model"', f"TITLE = {json.dumps(title)}"
    )


def _requirements() -> str:
    """What app.py needs, in the versions that the model was read back with."""
    import transformers

    versions = {
        "gradio": GRADIO,
        "torch": torch.__version__.partition("+")[0],
        "transformers": transformers.__version__,
    }
    return "".join(f"{package}=={version}\n" for package, version in versions.items())


def _card(bundle: ModelBundle, title: str, licence: str | None, checked: str) -> str:
    header = {
        "title": title,
        "emoji": "\U0001f4ac",
        "sdk": "gradio",
        "sdk_version": GRADIO,
        "app_file": SPACE_APP,
        "pinned": False,
    } | ({"license": licence} if licence is not None else {})
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in header.items()]
    total = sum(p.numel() for p in bundle.model.parameters())
    kind = "Chat with" if bundle.template is not None else "Let text be continued by"
    return "\n".join(
        [
            "---",
            *lines,
            "---",
            "",
            f"# {title}",
            "",
            f"{kind} a language model of {count(total)} parameters, trained from nothing.",
            "",
            f"At home: `pip install -r {SPACE_REQUIREMENTS} && python {SPACE_APP}`.",
            "",
            f"Written by fromscratch {__version__}. {checked}",
            "",
        ]
    )
