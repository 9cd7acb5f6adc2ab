"""The page of verbs: what `fromscratch VERB --help` says of each, from the command line itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperGroup

from fromscratch.cli.main import app

_EXAMPLE = re.compile(r"^(.*?): (fromscratch .*|torchrun .*)$", re.DOTALL)


def verbs() -> Iterator[tuple[str, Any]]:
    """Every command with the words it is called by, `logs import` among them."""
    yield from _below(typer.main.get_command(app), "")


def page() -> str:
    """The page, in Markdown."""
    parts = [
        "# Verbs\n",
        "What `fromscratch VERB --help` says, made from the command line itself. Recipes and their "
        "overrides are told of under [recipe keys](recipe.md).\n",
    ]
    for name, command in verbs():
        parts += [f"## `{name}`\n", _text(command), _usage(name, command), _rows(command)]
    return "\n".join(parts)


def _below(group: Any, words: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from _below(command, f"{words}{name} ")
        elif not command.hidden:
            yield f"{words}{name}", command


def _text(command: Any) -> str:
    """The help: a paragraph that ends in a command becomes one to copy."""
    parts = []
    for paragraph in (command.help or "").replace("\b", "").split("\n\n"):
        text = " ".join(paragraph.split())
        example = _EXAMPLE.match(text)
        parts.append(f"{example[1]}:\n\n```console\n{example[2]}\n```" if example else text)
    return "\n\n".join(parts) + "\n"


def _usage(name: str, command: Any) -> str:
    words = [_argument(p) for p in command.params if not p.opts[0].startswith("-")]
    return f"```text\nfromscratch {' '.join([name, *words])} [OPTIONS]\n```\n"


def _argument(parameter: Any) -> str:
    name = (parameter.metavar or parameter.name).upper()
    many = "..." if parameter.nargs == -1 and not name.endswith("...") else ""
    return f"{name}{many}" if parameter.required else f"[{name}{many}]"


def _rows(command: Any) -> str:
    lines = ["| | default | |", "|---|---|---|"]
    for parameter in command.params:
        if parameter.hidden:
            continue
        is_option = parameter.opts[0].startswith("-")
        names = [*parameter.opts, *parameter.secondary_opts] if is_option else []
        name = ", ".join(names) if names else _argument(parameter).strip("[]")
        said = " ".join((parameter.help or "").split()).replace("|", "\\|")
        lines.append(f"| `{name}` | {_default(parameter)} | {said} |")
    return "\n".join(lines) + "\n"


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    default = parameter.default
    if isinstance(parameter.show_default, str):  # in words: it depends on something
        return parameter.show_default
    if default is None or default is False or default in ("", []) or callable(default):
        return ""
    if default is True:
        return f"`{parameter.opts[0]}`"
    return f"`{getattr(default, 'value', default)}`"
