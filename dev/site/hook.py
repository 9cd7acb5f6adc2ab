"""What mkdocs does here besides: pages made from the code, and from files of the repository.

Job: the site shows README.md, CONTRIBUTING.md and their like where they are, not copies of them,
and a reference that is made anew from the code by every build. What comes in: mkdocs's own events.
What goes out: pages that exist in memory only. Always true: a link to a page of the site is a link,
and a link to any other file of the repository is that file's name.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import guarantees
import on_disk
import python_api
import recipe_keys
import verbs
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]

FROM_THE_REPOSITORY = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "dev/LOG.md": "lab-log.md",
    "benchmarks/RESULTS.md": "benchmarks.md",
}
"""Files outside docs/, and the pages of the site that show them."""

FROM_THE_CODE: dict[str, Callable[[], str]] = {
    "reference/recipe.md": recipe_keys.page,
    "reference/verbs.md": verbs.page,
    "reference/files.md": on_disk.page,
    "reference/guarantees.md": guarantees.page,
    "reference/python.md": python_api.page,
}

_FENCE = re.compile(r"^(```\w+)[^\n{]+$", re.MULTILINE)
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]*)(#[^)\s]*)?\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Replaces each pattern in the navigation by the pages it stands for."""
    pages = sorted(
        path.relative_to(config.docs_dir).as_posix() for path in Path(config.docs_dir).rglob("*.md")
    )
    if config.nav is not None:
        named = {name for name in _names(config.nav) if "*" not in name}
        config.nav = _filled(config.nav, [page for page in pages if page not in named])
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that no file in docs/ holds."""
    for source, uri in FROM_THE_REPOSITORY.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, uri, content=moved(text, source, uri)))
    for uri, make in FROM_THE_CODE.items():
        files.append(File.generated(config, uri, content=make()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Drops what stands behind a fence's language, which is for the tests; mends links."""
    if page.parent is None:  # a tab of one page has nothing to choose from beside it
        page.meta["hide"] = ["navigation"]
    uri = page.file.src_uri
    if uri not in FROM_THE_REPOSITORY.values() and uri not in FROM_THE_CODE:
        markdown = moved(markdown, f"docs/{uri}", uri)
    return _FENCE.sub(r"\1", markdown)


def moved(markdown: str, source: str, uri: str) -> str:
    """A file's text with its links as they are at its page.

    Args:
        markdown: The text.
        source: The file, from the repository's root.
        uri: The page that shows it, from the site's.
    """

    def link(match: re.Match[str]) -> str:
        mark, words, target, anchor = match.groups()
        if not target or "://" in target or target.startswith("mailto:"):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        shown = FROM_THE_REPOSITORY.get(path)
        if shown is None and path.startswith("docs/"):
            shown = path.removeprefix("docs/")
        if shown is None:
            return words if words.startswith("`") else f"`{path}`"
        there = posixpath.relpath(shown, posixpath.dirname(uri) or ".")
        title = _title(path) if words == path else words
        return f"{mark}[{title}]({there}{anchor or ''})"

    return _LINK.sub(link, markdown)


def _title(path: str) -> str:
    """The heading of a page: a reader of the site does not care what file it is."""
    first = (ROOT / path).read_text(encoding="utf-8").split("\n", 1)[0]
    return first.removeprefix("# ")


def _names(nav: list[Any]) -> Iterator[str]:
    for entry in nav:
        if isinstance(entry, str):
            yield entry
        else:
            for below in entry.values():
                yield from [below] if isinstance(below, str) else _names(below)


def _filled(nav: list[Any], unnamed: list[str]) -> list[Any]:
    """The navigation without patterns, and without sections that are empty then.

    Args:
        nav: Entries as in mkdocs.yml.
        unnamed: Pages that no plain entry names; those that a pattern takes go from it.
    """
    filled: list[Any] = []
    for entry in nav:
        if isinstance(entry, dict):
            for title, below in entry.items():
                inside = below if isinstance(below, str) else _filled(below, unnamed)
                filled += [{title: inside}] if inside else []
        elif "*" in entry:
            found = [page for page in unnamed if _matches(page, entry)]
            unnamed[:] = [page for page in unnamed if page not in found]
            filled += found
        else:
            filled.append(entry)
    return filled


def _matches(page: str, pattern: str) -> bool:
    """Like a shell: a * does not reach into folders."""
    return page.count("/") == pattern.count("/") and fnmatch.fnmatch(page, pattern)
