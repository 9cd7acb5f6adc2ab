"""What is looked for in a model folder: a checkpoint of ours, or anybody's GPT-2 or Qwen3.

Weights are mapped, not read: a large model takes no longer than a small one. Nothing in the folder
is ever run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fromscratch.checkpoint.bundle import read_model
from fromscratch.checkpoint.chat_template import has_foreign_template, template_in
from fromscratch.checkpoint.model_files import check_model_folder
from fromscratch.doctor.finding import Check
from fromscratch.foundation.advice import Advice
from fromscratch.foundation.files import read_json
from fromscratch.foundation.names import CHECKPOINT_CONFIG
from fromscratch.tokenizer.tokenizer import Tokenizer, load_tokenizer

_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


@dataclass(frozen=True)
class ModelSubject:
    """A model folder.

    Attributes:
        folder: Where it lies.
    """

    folder: Path

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The folder's."""
        return load_tokenizer(self.folder)

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.json as it stands."""
        content = read_json(self.folder / CHECKPOINT_CONFIG)
        return content if isinstance(content, dict) else {}


def _runs_nothing(subject: ModelSubject) -> Iterator[Advice]:
    check_model_folder(subject.folder)  # refuses
    yield from ()


def _whole(subject: ModelSubject) -> Iterator[Advice]:
    config, _ = read_model(subject.folder)
    if config.vocab_size < subject.tokenizer.vocab_size:
        yield Advice(
            "R48",
            f"its tokenizer has {subject.tokenizer.vocab_size:,} ids, and the model "
            f"{config.vocab_size:,}: they do not belong together",
            "take the tokenizer that the model was trained with",
        )


def _runs_code(subject: ModelSubject) -> Iterator[Advice]:
    if "auto_map" in subject.config:
        yield Advice(
            "R56",
            "config.json names code to be run when it is loaded (auto_map)",
            "here it never is; elsewhere, do not say trust_remote_code=True",
        )
    pickles = sorted(p.name for p in subject.folder.iterdir() if p.suffix in _PICKLES)
    if pickles:
        yield Advice(
            "R56",
            f"{pickles[0]} lies in the folder, a pickle, which can run any code when it is opened",
            "here it is not read; delete it before you give the folder away",
        )


def _foreign_template(subject: ModelSubject) -> Iterator[Advice]:
    if has_foreign_template(subject.folder, subject.tokenizer):
        yield Advice(
            "R53",
            "its chat template is none of ours, and a template is a program, so it is not run",
            "say which of ours it was trained with: fromscratch chat MODEL --template chatml",
        )


def _roles_are_text(subject: ModelSubject) -> Iterator[Advice]:
    template = template_in(subject.folder, subject.tokenizer)
    if template is None:
        return
    known = subject.tokenizer.special_ids
    lacking = [token for token in template.special_tokens if token not in known]
    if lacking:
        yield Advice(
            "R49",
            f'its chat template "{template.name}" needs {", ".join(lacking)}, which are no tokens '
            "of its tokenizer",
            "finetune it here, which adds them: fromscratch train sft-110 --from MODEL",
        )


MODEL_CHECKS: tuple[Check[ModelSubject], ...] = (
    Check("R56", "its weights run no code", _runs_nothing, "refused"),
    Check("R48", "weights, config and tokenizer belong together", _whole, "refused"),
    Check("R56", "nothing beside them does", _runs_code),
    Check("R53", "its chat template is known", _foreign_template),
    Check("R49", "its roles are tokens", _roles_are_text),
)
