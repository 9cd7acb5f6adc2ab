"""The frame of a report: one HTML file that asks nothing of the network.

Style, scripts and numbers are inside, and a content security policy forbids every request and every
script but the page's own. A page that is served to be watched may ask its own server, nobody else.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from importlib import resources
from typing import Any

from fromscratch.report.markup import Html, join, json_block, tag

_STYLES = ("vendor/uplot/uPlot.min.css", "web/page.css", "web/charts.css")
_SCRIPTS = ("vendor/uplot/uPlot.iife.min.js", "web/series.js", "web/charts.js", "web/page.js")
_LIVE = "web/live.js"


def document(
    title: str, description: str, parts: Iterable[Html], data: dict[str, Any], *, version: str = ""
) -> str:
    """A whole page.

    Args:
        title: Of the browser's tab.
        description: For whoever links to it.
        parts: Of `<main>`, in their order.
        data: What the charts' script reads (embed.py).
        version: Of the files it was made from, for a page that updates itself; empty for one that
            does not.
    """
    live = bool(version)
    styles = [_source(name) for name in _STYLES]
    scripts = [_source(name) for name in (*_SCRIPTS, _LIVE)[: None if live else -1]]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy(scripts, live=live)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="description", content=description),
        tag("title", title),
        # An empty icon, or a browser would ask a server for one.
        tag("link", rel="icon", href="data:,"),
        *(tag("style", style) for style in styles),
    )
    body = tag(
        "body",
        tag("main", *parts),
        tag("p", id="live", role="status") if live else Html(),
        json_block(data, id="data"),
        *(tag("script", script) for script in scripts),
    )
    page = tag("html", head, body, lang="en", data_version=version or None)
    return join([Html("<!DOCTYPE html>\n"), page, "\n"])


def policy(scripts: Iterable[str], *, live: bool) -> str:
    """The content security policy: these scripts, no other, and no request."""
    digests = (
        base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
        for script in scripts
    )
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    requests = "'self'" if live else "'none'"
    # Bars and labels are placed by style attributes, hence unsafe-inline for style only.
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        f"connect-src {requests}; base-uri 'none'; form-action 'none'"
    )


def _source(name: str) -> Html:
    text = resources.files("fromscratch.report").joinpath(name).read_text(encoding="utf-8")
    assert "</" not in text, "would end its own element"
    return Html(text)
