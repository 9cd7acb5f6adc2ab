"""The chat template of a model folder: written for us and for transformers, and found again.

A folder says in tokenizer_config.json which of our templates it has, and spells the same as Jinja
under `chat_template`. Jinja of somebody else's is a program, and is never run here (R56): it is
only compared with ours, letter by letter.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fromscratch.chat.template import Template, template_named, template_names
from fromscratch.foundation.files import read_json
from fromscratch.foundation.names import CHECKPOINT_CHAT_TEMPLATE, CHECKPOINT_TOKENIZER_CONFIG
from fromscratch.tokenizer.tokenizer import Tokenizer

_JINJA = "chat_template"
_NAME = "fromscratch_chat_template"


def chat_entries(template: Template, tokenizer: Tokenizer) -> dict[str, str]:
    """What tokenizer_config.json says of a template."""
    return {_JINJA: template.jinja(tokenizer.special_ids), _NAME: template.name}


def template_in(folder: Path, tokenizer: Tokenizer) -> Template | None:
    """Which of our templates a model folder has; None for a base model, or a template of others.

    Raises:
        UserError: It names one that this version does not have.
    """
    entries = _entries(folder)
    if isinstance(name := entries.get(_NAME), str):
        return template_named(name)
    if jinja := _jinja(folder, entries):
        specials = tokenizer.special_ids
        for template in map(template_named, template_names()):
            if template.jinja(specials) == jinja:
                return template
    return None


def has_foreign_template(folder: Path, tokenizer: Tokenizer) -> bool:
    """Whether a folder has a chat template that is none of ours."""
    is_there = bool(_jinja(folder, _entries(folder)))
    return is_there and template_in(folder, tokenizer) is None


def _entries(folder: Path) -> dict[str, Any]:
    config = folder / CHECKPOINT_TOKENIZER_CONFIG
    content = read_json(config) if config.is_file() else {}
    return content if isinstance(content, dict) else {}


def _jinja(folder: Path, entries: dict[str, Any]) -> str | None:
    """Newer versions of transformers keep it in a file of its own."""
    file = folder / CHECKPOINT_CHAT_TEMPLATE
    if file.is_file():
        return file.read_text(encoding="utf-8", errors="replace")
    found = entries.get(_JINJA)
    return found if isinstance(found, str) else None
