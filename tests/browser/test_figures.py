"""Frames and figures, read and drawn in a browser by the libraries that pages use for them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect
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


async def cells(page: Page, table: str) -> Any:
    """What a table shows, its head first."""
    return await page.locator(f"#{table}").evaluate(
        "table => [...table.rows].map((row) => [...row.cells].map((cell) => cell.textContent))"
    )


async def test_frames_and_figures_arrive(
    visit: Visit, serve: Callable[..., Server], app: Path
) -> None:
    page = await visit(serve("greenroom", "run", str(app)).url)
    await page.get_by_role("button", name="Draw").click()
    await expect(page.locator("#numbers")).to_have_text("[0,0.5,1]")
    names = ["a", "none", "c", "é"]
    days = [["day", "name", "n"], *([f"2026-01-0{n}", names[n - 1], str(n)] for n in range(1, 5))]
    assert await cells(page, "pandas") == days
    assert await cells(page, "polars") == [["name", "share"], ["x", "0.25"], ["y", "none"]]

    assert await cells(page, "table") == [["name", "n"], ["a", "1"], ["b", "2"]]
    await page.get_by_role("button", name="Edit").click()
    await expect(page.locator("#table")).to_contain_text("c")
    edited = [["name", "n"], ["a", "10"], ["b", "2"], ["c", "none"]]
    assert await cells(page, "table") == edited

    for name in ("matplotlib", "packed"):
        image = page.locator(f"#{name}")
        await expect(image).to_have_js_property("naturalWidth", 360)
        await expect(image).to_have_js_property("naturalHeight", 240)
    await expect(page.locator("#plotly .bars path")).to_have_count(2)
    await expect(page.locator("#altair canvas")).to_be_visible()
    coloured = await page.locator("#altair canvas").evaluate(
        """canvas => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height)
            .data.filter((value, i, all) => i % 4 === 2 && value - all[i - 2] > 64).length"""
    )
    assert coloured > 200  # the line is blue
    await page.screenshot(path=app / "figures.png", full_page=True)
