"""Frames and figures, read and drawn in a browser by the libraries that pages use for them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.async_api import expect
from tests.browser.conftest import ROOT, Server, Visit

VENDOR = (
    "apache-arrow/Arrow.es2015.min.js",
    "plotly.js-basic-dist-min/plotly-basic.min.js",
    "vega/build/vega.min.js",
    "vega-lite/build/vega-lite.min.js",
    "vega-interpreter/build/vega-interpreter.js",
)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """The app with the browser's libraries in its public folder."""
    folder = shutil.copytree(Path(__file__).parent / "figures", tmp_path / "figures")
    vendor = folder / "public" / "vendor"
    vendor.mkdir()
    for name in VENDOR:
        shutil.copy(ROOT / "node_modules" / name, vendor)
    return folder


async def test_frames_and_figures_arrive(
    visit: Visit, serve: Callable[..., Server], app: Path
) -> None:
    page = await visit(serve("greenroom", "run", str(app)).url)
    await page.get_by_role("button", name="Draw").click()
    await expect(page.locator("#numbers")).to_have_text("[0,0.5,1]")

    day = 24 * 3600 * 1000
    first = 1767225600000  # 2026-01-01
    rows = json.loads(await page.locator("#pandas").inner_text())
    assert rows == [
        {"day": first + i * day, "name": name, "n": i + 1}
        for i, name in enumerate(["a", None, "c", "é"])
    ]
    rows = json.loads(await page.locator("#polars").inner_text())
    assert rows == [{"name": "x", "share": 0.25}, {"name": "y", "share": None}]

    image = page.locator("#matplotlib")
    await expect(image).to_have_js_property("naturalWidth", 300)
    await expect(image).to_have_js_property("naturalHeight", 200)
    await expect(page.locator("#plotly .bars path")).to_have_count(2)
    await expect(page.locator("#altair canvas")).to_be_visible()
    coloured = await page.locator("#altair canvas").evaluate(
        """canvas => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height)
            .data.filter((value, i, all) => i % 4 === 2 && value - all[i - 2] > 64).length"""
    )
    assert coloured > 200  # the line is blue
    await page.screenshot(path=app / "figures.png", full_page=True)
    shutil.copy(app / "figures.png", "/tmp/figures.png")
