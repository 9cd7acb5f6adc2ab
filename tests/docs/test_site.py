"""The documentation site: what is made from the code is complete, and it builds without a word.

The built site is opened as files, in a browser that is offline.
"""

from __future__ import annotations

import ast
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from typed_commands import ROOT

from fromscratch.foundation import names
from tests.browser import started

sys.path.insert(0, str(ROOT / "dev" / "site"))

import guarantees
import hook
import on_disk
import recipe_keys
import verbs

TABLES = list(recipe_keys.tables())


@pytest.mark.parametrize("heading", [heading for heading, _, _ in TABLES])
def test_every_key_of_a_recipe_is_explained_with_its_unit(heading: str):
    """A key without a line beneath it fails here, and so does a count that does not say of what."""
    (keys,) = [keys for h, _, keys in TABLES if h == heading]
    for key in keys:
        assert re.fullmatch(r"[A-Z0-9`].{5,240}[.]", key.meaning), key
        counted = re.search(r"(steps|tokens|epochs|minutes|fraction)$", key.name)
        if counted and "number" in key.type:
            unit = {"fraction": "share"}.get(counted[0], counted[0])
            assert key.unit == unit, key


def test_what_may_be_left_out_is_not_called_required():
    known = {f"{h}.{key.name}": key.default for h, _, keys in TABLES for key in keys}
    assert known["[model].vocab_size"] == "left out"
    assert known["[model].n_layer"] == known["[train].tokens_per_step"] == "required"
    assert known["[optim].lr"] == "`0.0006`"
    assert known["[optim].betas"] == "`[0.9, 0.95]`"
    assert known["[model].qkv_bias"] == "the family's"


def test_every_name_on_disk_is_explained():
    shown = {name for rows in on_disk.sections().values() for name in rows}
    assert shown == {n for n in dir(names) if n.isupper() and isinstance(getattr(names, n), str)}
    for rows in on_disk.sections().values():
        for name, (_, said) in rows.items():
            assert said, f"{name} in names.py needs a comment that says what it holds"


def test_every_field_that_is_written_is_explained():
    for classes in on_disk.WRITTEN.values():
        for written in classes:
            for field, said in on_disk.fields(written).items():
                assert said.endswith("."), f"{written.__name__}.{field}"


@pytest.mark.parametrize("guarantee", guarantees.GUARANTEES, ids=lambda g: g.name)
def test_the_tests_of_a_guarantee_are_there(guarantee: guarantees.Guarantee):
    for test in guarantee.tests:
        file, _, function = test.partition("::")
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        functions = [n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
        assert function in functions, test


def test_links_into_the_repository():
    page = "See [docs/data.md](docs/data.md#mixing), [the log](dev/LOG.md), [it](src/a.py), [x](#y)"
    assert hook.moved(page, "README.md", "index.md") == (
        "See [Data](data.md#mixing), [the log](lab-log.md), `src/a.py`, [x](#y)"
    )
    assert hook.moved("[a](../data.md) ![b](p.png)", "docs/how-to/x.md", "how-to/x.md") == (
        "[a](../data.md) ![b](p.png)"
    )


def test_patterns_in_the_navigation():
    nav = [{"A": ["a.md", "b*.md"]}, {"None": ["x/*.md"]}, {"Rest": ["*.md"]}, {"One": "c.md"}]
    unnamed = ["bb.md", "d.md", "b.md", "x.md"]
    assert hook._filled(nav, unnamed) == [
        {"A": ["a.md", "bb.md", "b.md"]},
        {"Rest": ["d.md", "x.md"]},
        {"One": "c.md"},
    ]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. `strict` makes an error of every warning: a link, an anchor, a lost page."""
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_MKDOCS_2_WARNING", "1")
        build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True))
    return folder


class Loaded(HTMLParser):
    """Addresses that a browser fetches by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            fetched = name == "src" or (tag == "link" and name == "href")
            if fetched and dict(attrs).get("rel") != "canonical":
                self.found.append(value or "")


@pytest.mark.slow
def test_it_loads_nothing_from_elsewhere(site: Path):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        parser = Loaded()
        parser.feed(page.read_text(encoding="utf-8"))
        assert len(parser.found) > 5
        assert not [address for address in parser.found if "//" in address], page


@pytest.mark.slow
def test_the_reference_has_what_the_code_has(site: Path):
    recipe = (site / "reference" / "recipe.html").read_text(encoding="utf-8")
    for heading, _, keys in TABLES:
        assert heading in recipe
        for key in keys:
            assert f"<td><code>{key.name}</code></td>" in recipe
    said = (site / "reference" / "verbs.html").read_text(encoding="utf-8")
    for name, command in verbs.verbs():
        assert f"<code>{name}</code>" in said
        for option in (word for p in command.params for word in p.opts if word.startswith("-")):
            assert re.search(rf"(<code>|, ){option}(,|</code>)", said), (name, option)


@pytest.mark.slow
def test_every_page_is_in_the_navigation(site: Path):
    home = (site / "index.html").read_text(encoding="utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        uri = page.relative_to(ROOT / "docs").with_suffix(".html").as_posix()
        assert f'href="{uri}"' in home, uri


@pytest.mark.slow
def test_a_search_works_in_files_without_a_network(site: Path):
    with started() as browser:
        page = browser.new_page()
        page.context.set_offline(True)
        page.goto((site / "index.html").as_uri())
        page.keyboard.press("/")
        page.keyboard.type("muon_momentum")
        found = page.locator(".md-search-result__link[href*='reference/recipe.html']").first
        found.wait_for(state="attached", timeout=60_000)
