"""The page in a real browser: drawn, zoomed, smoothed, on a phone, on paper, live."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fromscratch.report import series
from fromscratch.report.build import write_report
from fromscratch.report.serve import open_server
from tests.browser import Opened, started

RunMaker = Callable[..., Path]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with started() as found:
        yield found


def health_rows() -> list[dict[str, object]]:
    return [
        {"step": s, "parts": {p: {"grad_norm": 1.0 / (s + i), "update_ratio": 1e-3} for i, p in
                              enumerate(("embed", "blocks.0", "head"))}}
        for s in range(10, 300, 10)
    ]  # fmt: skip


def address(run: Path, *more: Path) -> str:
    return write_report(run, *more, out=run / "report.html").as_uri()


def test_charts_are_drawn_and_answer(make_run: RunMaker, browser: Any) -> None:
    run = make_run(300, health=health_rows())
    view = Opened(browser, address(run))
    inked = view.ink()
    assert set(inked) == {"loss", "bpb", "perplexity", "lr", "grad_norm", "clip", "speed", "mfu"}
    assert min(inked.values()) > 60, inked
    page = view.page

    # Dragging zooms every chart, a double click shows all again.
    page.locator("#loss").scroll_into_view_if_needed()
    box = page.locator("#loss .u-over").bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.5, y)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, y, steps=4)
    page.mouse.up()
    shown = view.do(
        "() => [...Report.charts.values()].map(c => [c.plot.scales.x.min, c.plot.scales.x.max])"
    )
    assert all(145 < low < 155 and 220 < high < 230 for low, high in shown), shown
    page.mouse.dblclick(box["x"] + box["width"] / 2, y)
    assert view.do("() => Report.visible()") == [0, 300]

    # The tooltip has the recorded value with all its digits, and the crosshair is on every chart.
    page.mouse.move(box["x"] + box["width"] * 0.4, y)
    tip = page.locator("#loss .tip").inner_text()
    step = int(tip.split("\n")[0].removeprefix("step "))
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    loss = next(r["loss"] for r in rows if r["step"] == step and "loss" in r)
    assert f"training: {float(f'{loss:.7g}')}" in tip
    assert view.do("() => Report.charts.get('lr').plot.cursor.left") > 0

    # Other axes keep the data; smoothing and log change what is drawn.
    page.get_by_label("tokens", exact=True).check()
    assert view.do("() => Report.visible()") == [0, 300 * 1536]
    page.get_by_label("hours", exact=True).check()
    assert view.do("() => Report.visible()[1]") == pytest.approx(120 / 3600)
    assert min(view.ink().values()) > 60
    page.get_by_label("steps", exact=True).check()
    curves = "() => Report.charts.get('loss').curves.length"
    assert view.do(curves) == 3
    page.locator("#smoothing").press("Home")
    assert view.do(curves) == 2
    page.locator("#smoothing").press("End")
    page.locator("#grad_norm .log").click()
    assert view.do("() => Report.charts.get('grad_norm').plot.scales.y.distr") == 3

    # The legend hides a curve; keys zoom and move.
    before = view.ink()["bpb"]
    page.locator("#bpb .legend button").first.click()
    page.wait_for_function("() => !Report.charts.get('bpb').plot.series[1].show")
    page.wait_for_timeout(50)
    assert view.ink()["bpb"] < before / 4
    page.locator("#loss .live").focus()
    page.keyboard.press("+")
    zoomed = view.do("() => Report.visible()")
    assert zoomed[1] - zoomed[0] == pytest.approx(150)
    page.keyboard.press("ArrowRight")
    assert page.locator("#loss .tip").is_visible()
    page.keyboard.press("0")
    page.locator("#zoom-in").click()
    assert view.do("() => Report.visible()") == [75, 225]

    # Events lead into the charts, samples go step by step, heat maps tell their values.
    page.locator(".events a[data-step='150']").first.click()
    low, high = view.do("() => Report.visible()")
    assert low < 150 < high
    first = page.locator("details.prompt").first
    assert first.locator("li:visible").count() == 1
    first.get_by_label("Earlier sample").click()
    assert "step 275" in first.locator("li:visible").inner_text()
    page.locator("#health-grad_norm img").hover(position={"x": 2, "y": 2})
    assert page.locator("#health-grad_norm output").inner_text() == "embed, step 10: 0.1"
    assert view.trouble == []


def test_the_script_smooths_as_the_picture_does(make_run: RunMaker, browser: Any) -> None:
    view = Opened(browser, address(make_run(60)))
    draw = np.random.default_rng(3)
    y = draw.normal(3, 0.2, 500)
    y[[7, 300]] = 1e6, np.nan
    given = [None if np.isnan(v) else v for v in y]
    got = view.do("v => Report.smoothed(v.map(x => x === null ? NaN : x), 0.02, 'mean')", given)
    counted, window = series.counted(y)
    assert got["window"] == window
    rows = np.flatnonzero(counted)
    np.testing.assert_allclose([got["y"][i] for i in rows], series.smoothed(y[rows], window))
    assert [i for i, v in enumerate(got["y"]) if v is None] == [7, 300]
    low, high = view.do("v => Report.usual(v, 4)", y[rows].tolist())
    assert (low, high) == pytest.approx(series.usual(y[rows], 4.0))


def test_a_phone_needs_no_sideways_scrolling(make_run: RunMaker, browser: Any) -> None:
    one = make_run(300, health=health_rows())
    for site in (address(one), address(one, make_run(200, name="a-run-of-a-rather-long-name"))):
        options = {"viewport": {"width": 390, "height": 800}, "color_scheme": "dark"}
        view = Opened(browser, site, **options)
        assert view.do("() => document.documentElement.scrollWidth") == 390
        assert min(view.ink().values()) > 20
        assert view.trouble == []


def test_paper_and_no_script_have_the_pictures_and_every_sample(
    make_run: RunMaker, browser: Any
) -> None:
    site = address(make_run(300))
    view = Opened(browser, site, java_script_enabled=False)
    assert view.page.locator("#loss svg").is_visible()
    assert view.page.locator("details.prompt").first.locator("li:visible").count() == 13
    view = Opened(browser, site)
    assert not view.page.locator("#loss svg").is_visible()
    view.do("() => { dispatchEvent(new Event('beforeprint')); }")
    view.page.emulate_media(media="print")
    assert view.page.locator("#loss svg").is_visible()
    assert not view.page.locator("#loss canvas").is_visible()
    assert not view.page.locator("#controls").is_visible()
    assert view.page.locator("details.prompt").first.locator("li:visible").count() == 13


def test_two_runs_lie_over_each_other(make_run: RunMaker, browser: Any) -> None:
    view = Opened(browser, address(make_run(300, name="long"), make_run(200, name="short")))
    names = view.page.locator("#loss .legend button").all_inner_texts()
    assert [n.strip() for n in names[:4]] == [
        "long: training", "short: training", "long: held-out", "short: held-out",
    ]  # fmt: skip
    assert min(view.ink().values()) > 60
    assert view.trouble == []


def test_a_watched_page_grows_with_its_run_and_keeps_its_view(
    make_run: RunMaker, browser: Any
) -> None:
    run = make_run(300)
    whole = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(r for r in whole[:50] if "val_loss" not in r))
    server, site = open_server([run], port=0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        view = Opened(browser, site)
        last = "() => { const d = Report.charts.get('loss').plot.data[0]; return d[d.length - 1]; }"
        assert "bpb" not in view.ink()
        # The first validation: rows before the others, and charts that were not there.
        (run / "metrics.jsonl").write_text("".join(whole[:200]))
        step = json.loads(whole[199])["step"]
        view.page.wait_for_function(f"() => ({last})() === {step}", timeout=30_000)
        assert min(view.ink()[key] for key in ("loss", "bpb", "perplexity")) > 60
        titles = view.page.locator("#curves h3").all_inner_texts()
        assert [t.split(" ")[0] for t in titles[:3]] == ["Loss", "Bits", "Perplexity"]
        view.page.evaluate("() => Report.zoom(50, 100)")
        view.page.evaluate("() => scrollTo(0, 700)")
        place = "() => Math.round(document.getElementById('bpb').getBoundingClientRect().top)"
        seen = view.do(place)
        with open(run / "metrics.jsonl", "a") as file:
            file.write("".join(whole[200:]))
            file.write('{"step": 301, "half a li')
        view.page.wait_for_function(f"() => ({last})() === 300", timeout=30_000)
        assert view.do("() => Report.visible()") == [50, 100]
        # What is looked at stays where it is, though sentences above it have come.
        assert view.do(place) == seen
        assert "460,800" in view.page.locator(".figures").inner_text()
        assert "half-written last line" in view.page.locator("#unread").inner_text()
        # A rollback: rows are dropped, the file is another one.
        (run / "shorter").write_text("".join(whole[:100]))
        (run / "shorter").replace(run / "metrics.jsonl")
        step = json.loads(whole[99])["step"]
        view.page.wait_for_function(f"() => ({last})() === {step}", timeout=30_000)
        assert "every line of every file was read" in view.page.locator("#unread").inner_text()
        assert view.trouble == []
    finally:
        server.shutdown()
        server.server_close()
