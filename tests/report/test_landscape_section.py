"""The loss landscape on the page, from files made for the purpose."""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from fromscratch.evaluate.landscape_points import LandscapeSettings, PointsFile, read_landscapes
from fromscratch.report.build import build_report
from fromscratch.report.landscape_section import describe, landscape_section


def bowl(x: float, y: float) -> float:
    return 3.0 + 4 * (x * x + y * y)


@pytest.fixture
def run_with(make_run: Callable[..., Path]) -> Callable[..., Path]:
    def make(loss: Callable[[float, float], float], *, done: int = 121) -> Path:
        run = make_run(40, every=10)
        settings = LandscapeSettings("ab" * 32, 40, "cd", 8192, 128, 0, 11, 1.0)
        file = PointsFile(run / "landscape", settings)
        for x, y in list(settings.grid())[:done]:
            file.append((x, y), loss(x, y))
        return run

    return make


def picture_in(html: str) -> Image.Image:
    found = re.search(r'src="data:image/png;base64,([^"]+)"', html)
    assert found
    return Image.open(io.BytesIO(base64.b64decode(found[1])))


def test_a_bowl_is_drawn_and_described(run_with):
    run = run_with(bowl)
    html = landscape_section(run)
    assert "own loss on these windows is 3.000, the lowest of the grid" in html
    assert "one nat above the middle at a distance of 0.49" in html  # between grid points
    assert "The highest is 11.00" in html
    assert "8,192 held-out tokens" in html
    picture = picture_in(html)
    assert picture.size == (1320, 572)
    assert len(picture.convert("RGB").getcolors(1_000_000) or []) > 60, "a surface has shades"
    assert html.count("<tr>") == 12
    assert html in build_report(run)


def test_a_model_that_is_not_at_the_bottom(run_with):
    (landscape,) = read_landscapes(run_with(lambda x, y: bowl(x - 0.2, y + 0.4)) / "landscape")
    assert "the lowest point of the grid, 3.000 at (0.2, -0.4)" in describe(landscape)


def test_losses_that_are_not_finite_are_left_blank(run_with):
    html = landscape_section(run_with(lambda x, y: math.inf if x > 0.7 else bowl(x, y)))
    assert "At 22 points the loss is not finite" in html
    assert picture_in(html).size == (1320, 572)


def test_a_part_of_a_landscape_says_how_to_go_on(run_with):
    html = landscape_section(run_with(bowl, done=50))
    assert "50 of 121 points" in html
    assert "--landscape goes on" in html
    assert "<img" not in html


def test_a_run_without_one_has_no_section(make_run):
    run = make_run(20, every=10)
    assert landscape_section(run) == ""
    (run / "landscape").mkdir()
    (run / "landscape" / "0123456789abcdef.jsonl").write_bytes(b'{"landscape": 1}\n')
    assert landscape_section(run) == ""
    assert "Loss landscape" not in build_report(run)


def test_a_plane_is_drawn_too(run_with):
    assert picture_in(landscape_section(run_with(lambda x, y: 2.5))).size == (1320, 572)
