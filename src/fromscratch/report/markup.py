"""HTML in which text is escaped unless it is already HTML.

What always holds: a plain `str` given to `tag` or `join` comes out as text, whatever it contains;
only `Html`, which this module makes, passes as markup. So a run's prompt cannot become a script
because somebody forgot a call.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable

# Not allowed in HTML, or invisible tricks: control characters but for tab and newline, lone
# surrogates (JSON can spell them, UTF-8 cannot), and the marks that turn the writing direction of
# everything after them.
_FORBIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff\u202a-\u202e\u2066-\u2069]"
)
_VOID = {"meta", "link", "br", "hr", "input", "img"}


class Html(str):
    """A string that is markup and will not be escaped again."""

    __slots__ = ()


def escape(value: str) -> Html:
    """`value` as text inside an element or a double-quoted attribute."""
    if isinstance(value, Html):
        return value
    return Html(_escaped(value))


def plain(value: str) -> str:
    """`value` with every character that no document should hold replaced by U+FFFD."""
    return _FORBIDDEN.sub("\ufffd", value)


def _escaped(value: str) -> str:
    return html.escape(plain(value))


def join(parts: Iterable[str], separator: str = "") -> Html:
    """The parts one after the other, plain ones escaped."""
    return Html(separator.join(escape(part) for part in parts))


def tag(name: str, /, *children: str, **attributes: str | bool | None) -> Html:
    """One element.

    Args:
        name: The element's name.
        children: Its content; a plain `str` is escaped.
        attributes: Underscores become hyphens, so `class_` and `data_chart` work. True gives a bare
            attribute; None and False leave it out.
    """
    written = []
    for key, value in attributes.items():
        spelled = key.rstrip("_").replace("_", "-")
        if value is True:
            written.append(f" {spelled}")
        elif value is not None and value is not False:
            written.append(f' {spelled}="{_escaped(value)}"')
    opening = f"<{name}{''.join(written)}>"
    if name in _VOID:
        return Html(opening)
    return Html(f"{opening}{join(children)}</{name}>")


def json_block(value: object, *, id: str | None = None) -> Html:
    """Data for the page's own script, as JSON that cannot end its element early."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return tag("script", Html(text), type="application/json", id=id)
