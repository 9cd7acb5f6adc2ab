"""What the source says of names: of a class's attributes, and behind constants."""

from __future__ import annotations

import inspect
import io
import tokenize
from types import ModuleType


def attributes_section(owner: type) -> dict[str, str]:
    """Of each attribute, what the class's docstring says under `Attributes:`."""
    lines = (inspect.getdoc(owner) or "").split("\n")
    if "Attributes:" not in lines:
        return {}
    found: dict[str, str] = {}
    name = ""
    for line in lines[lines.index("Attributes:") + 1 :]:
        indent = len(line) - len(line.lstrip())
        if indent == 4 and ":" in line:
            name, _, text = line.strip().partition(":")
            found[name] = text.strip()
        elif indent > 4:
            found[name] += " " + line.strip()
        elif line:
            break
    return found


def sections_of_constants(module: ModuleType) -> dict[str, dict[str, tuple[str, str]]]:
    """The constants of a module under its `# --- title ---` lines.

    Returns:
        Of each title, of each constant (a string): its value, and the comment behind it.
    """
    source = inspect.getsource(module)
    found: dict[str, dict[str, tuple[str, str]]] = {}
    title, name = "", ""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        at_margin = token.start[1] == 0
        if token.type == tokenize.COMMENT and at_margin and token.string.startswith("# --- "):
            title = token.string.strip("# -")
            found[title] = {}
        elif token.type == tokenize.NAME and at_margin:
            name = token.string
            value = getattr(module, name, None)
            if name.isupper() and isinstance(value, str) and title:
                found[title][name] = (value, "")
        elif token.type == tokenize.COMMENT and name in found.get(title, {}):
            found[title][name] = (found[title][name][0], token.string.strip("# "))
    return found
