"""The app that was written for Writer, with a page of its own in the place of the Builder's."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from playwright.async_api import expect
from tests.browser.conftest import ROOT, Server, Visit
from tests.compat.conftest import migrated


async def test_a_page_of_html_takes_the_place_of_the_builder(
    visit: Visit, serve: Callable[..., Server], tmp_path: Path
) -> None:
    folder = shutil.copytree(ROOT / "tests/compat/app", tmp_path / "shop")
    for module in folder.glob("*.py"):
        module.write_text(migrated(module.read_text("utf-8")), "utf-8")
    page = await visit(serve("greenroom", "run", str(folder)).url)

    await expect(page.locator("#greeting")).to_have_text("Hello, Ada")
    await expect(page.locator("body")).to_have_css("background-color", "rgb(1, 2, 3)")
    await page.get_by_role("button", name="+1").click()
    await expect(page.locator("#counter")).to_have_text("4")
    await expect(page.locator("#doubled")).to_have_text("8")

    await page.locator("#name").fill("Grace")
    await page.locator("#name").press("Tab")
    await expect(page.locator("#greeting")).to_have_text("Hello, Grace")
    await page.get_by_role("button", name="Where?").click()
    await expect(page.locator("#clicked")).to_have_text("source")

    await page.locator(".pick").nth(1).click()  # of a repeater: its context names the row
    await expect(page.locator(".pick").nth(1)).to_have_class("pick picked")
    await expect(page.locator(".pick").nth(0)).to_have_class("pick")

    await page.get_by_role("button", name="Leave").click()
    await expect(page.locator("#chart")).to_have_text("1 2")
    await page.wait_for_url("**/#goodbye?from=shop")
