"""One headless Chromium for all tests of the page, driven through playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@contextmanager
def started() -> Iterator[Any]:
    """A browser; the test skips itself where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    named = os.environ.get("FROMSCRATCH_CHROMIUM")
    program = named or next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("There is no Chromium; FROMSCRATCH_CHROMIUM names one.")
    with playwright.sync_playwright() as driver:
        # In containers there is often no user to sandbox with; the pages are ours.
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Opened:
    """A page in the browser; `trouble` collects what it complains of and what it asks for."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.trouble: list[str] = []
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.trouble.append(message.text))
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("request", self._ask)
        self.address = address
        self.page.goto(address)
        if options.get("java_script_enabled", True):
            self.page.wait_for_selector("html[data-ready]")

    def _ask(self, request: Any) -> None:
        if not request.url.startswith((self.address, "data:")):
            self.trouble.append(f"asks for {request.url}")

    def do(self, script: str, *arguments: Any) -> Any:
        """The value of a JavaScript expression or function."""
        return self.page.evaluate(script, *arguments)

    def ink(self) -> dict[str, int]:
        """For each chart by its anchor, how many pixels are drawn in a colour of the curves."""
        return dict(self.do(INK))


# Pixels of more colour than the greys of grid and labels.
INK = """() => [...document.querySelectorAll('figure.chart.enhanced')].map(figure => {
  const canvas = figure.querySelector('canvas');
  if (!canvas) return [figure.id, 0];
  const copy = new OffscreenCanvas(canvas.width, canvas.height);
  const context = copy.getContext('2d', {willReadFrequently: true});
  context.drawImage(canvas, 0, 0);
  const d = context.getImageData(0, 0, canvas.width, canvas.height).data;
  let n = 0;
  for (let i = 0; i < d.length; i += 4)
    if (d[i + 3] > 60 && Math.max(d[i], d[i+1], d[i+2]) - Math.min(d[i], d[i+1], d[i+2]) > 40) n++;
  return [figure.id, n];
})"""
