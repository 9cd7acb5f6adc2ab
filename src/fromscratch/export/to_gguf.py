"""A model as one GGUF file, complete: made, read back, compared, and only then given its name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fromscratch.checkpoint.bundle import ModelBundle
from fromscratch.export.gguf_check import GGUFCheck, check_gguf, overrides
from fromscratch.export.gguf_model import (
    BYTES_PER_NUMBER,
    FileType,
    gguf_config,
    gguf_library,
    gguf_tensors,
    write_gguf,
)
from fromscratch.export.gguf_tokenizer import gguf_tokenizer
from fromscratch.export.placing import new_file


@dataclass(frozen=True)
class GGUFExport:
    """A file that was written and read back.

    Attributes:
        path: The file.
        n_bytes: Its size.
        check: What reading it back has found.
        told: What transformers' reader must be told beside the file's name.
    """

    path: Path
    n_bytes: int
    check: GGUFCheck
    told: dict[str, int]


def export_gguf(
    bundle: ModelBundle,
    out: Path,
    *,
    type: FileType = "f16",
    name: str | None = None,
    licence: str | None = None,
    approximate_gelu: bool = False,
) -> GGUFExport:
    """Writes a model for llama.cpp and what is built on it.

    Args:
        bundle: The model.
        out: The file; not there yet.
        type: What matrices are rounded to.
        name: What the model is called; the file's name if not given.
        licence: Its SPDX name, where one was chosen.
        approximate_gelu: Whether readers' tanh approximation may stand in for the exact GELU.

    Raises:
        UserError: GGUF cannot express the model or its tokenizer, the file is there or cannot be
            written, or what was read back is not the same model.
    """
    gguf_library()
    config = gguf_config(bundle.model.config, approximate_gelu=approximate_gelu)
    tokenizer = gguf_tokenizer(bundle.tokenizer)
    tensors = gguf_tensors(bundle, config, type)
    template = bundle.template
    numbers = sum(t.numel() for t in tensors.tensors.values())
    with new_file(out, n_bytes=round(numbers * BYTES_PER_NUMBER[type])) as path:
        write_gguf(
            path,
            config,
            tensors,
            tokenizer,
            name=name or out.stem,
            # Readers of GGUF take no marks out of text (tokenizer/marks.py), so none are put in.
            chat_template=template.jinja(()) if template is not None else None,
            end_of_turn=(
                bundle.tokenizer.special_ids[template.end_of_turn] if template is not None else None
            ),
            licence=licence,
        )
        check = check_gguf(path, bundle, config, tensors)
        n_bytes = path.stat().st_size
    return GGUFExport(out, n_bytes, check, overrides(config))
