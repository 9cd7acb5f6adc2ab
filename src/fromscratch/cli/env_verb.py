"""`fromscratch env`: what a bug report needs to know of this machine."""

from __future__ import annotations

import os

from fromscratch.cli.show import print_json, say
from fromscratch.cli.vocabulary import option


def run(as_json: bool = option("json", False)) -> None:
    """Prints versions, devices, what `auto` chooses here, folders and settings; nothing secret.

    Example: fromscratch env --json
    """
    from fromscratch.runs.environment import describe_environment

    found = describe_environment(os.environ)
    if as_json:
        print_json(found)
        return
    for title, section in found.items():
        say(title)
        width = max((len(name) for name in section), default=0)
        for name, value in section.items():
            say(f"  {name:<{width}}  {_words(value)}")


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_words(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(map(_words, value)) or "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "unknown" if value is None else str(value)
