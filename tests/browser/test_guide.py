"""The pages of docs/guide that have HTML, in a browser: saved, served and clicked as they say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.async_api import Page, expect
from tests.browser.conftest import Server, Visit
from tests.support.scripts import write
from tests.test_docs_guide import GUIDE, files
from tests.test_docs_run import blocks

Serve = Callable[..., Server]
Open = Callable[[str], Server]

SCRIPT = 'import { connect } from "./greenroom.js";\nconst gr = connect();\ngr.bind(document);\n'
SHOWN = """
gr.subscribe("", () => { document.querySelector("pre").textContent = JSON.stringify(gr.state); });
"""
HEAD = '<!doctype html>\n<title>Café</title>\n<link rel="icon" href="data:,">\n'


@pytest.fixture
def cafe(serve: Serve, tmp_path: Path) -> Open:
    """A server of the app of a page; its HTML in a page that also shows the state."""

    def start(page: str) -> Server:
        saved = files(page)
        (_, html), *_ = blocks(GUIDE / page, "html")
        if "public/index.html" not in saved:
            html = f'{HEAD}<script type="module" src="page.js"></script>\n{html}<pre></pre>'
            saved["public/page.js"] = SCRIPT + SHOWN
        saved["public/index.html"] = html.replace("<title>", f"{HEAD.splitlines()[2]}\n<title>")
        return serve("greenroom", "run", str(write(tmp_path, saved)))

    return start


async def state(page: Page, text: str) -> None:
    await expect(page.locator("pre")).to_contain_text(text)


async def test_events_and_handlers(visit: Visit, cafe: Open) -> None:
    page = await visit(cafe("events-and-handlers.md").url)
    for number in ("0", "1", "2"):
        await expect(page.locator("output")).to_have_text(number)
        await page.get_by_role("button").click()


async def test_payloads(visit: Visit, cafe: Open) -> None:
    page = await visit(cafe("payloads.md").url)
    await page.get_by_label("name", exact=True).fill("Ada")
    await state(page, '"name":"Ada"')
    await page.get_by_label("guests").fill("3")
    await page.get_by_label("at the window").check()
    await page.get_by_role("button", name="book").click()
    await state(page, '"booking":"3 at the window"')


async def test_context(visit: Visit, cafe: Open) -> None:
    page = await visit(cafe("context.md").url)
    await page.get_by_role("button", name="small").click()
    await state(page, '"last":"click on small"')
    await page.get_by_role("button", name="large").hover()
    await state(page, '"last":"mouseenter on large"')


async def test_repeaters(visit: Visit, cafe: Open) -> None:
    page = await visit(cafe("repeaters.md").url)
    plain, named = page.locator("#plain li"), page.locator("#named li")
    await expect(plain).to_have_count(2)
    await plain.nth(1).get_by_role("button").click()
    await expect(plain.nth(1).locator("b")).to_have_text("served")
    await expect(plain.nth(0).locator("b")).to_have_text("")
    await named.nth(0).get_by_role("button").click()
    await expect(plain).to_have_count(1)
    await expect(plain).to_contain_text("green tea")


async def test_repeaters_whose_rows_have_ids(visit: Visit, cafe: Open) -> None:
    page = await visit(cafe("repeaters.md").url)
    guests = page.locator("#guests li")
    await guests.nth(0).get_by_placeholder("wishes").fill("by the window")
    come = page.get_by_placeholder("who comes in?")
    for name in ("Cem", "Dan"):
        await come.fill(name)
        await come.press("Enter")
        await expect(guests.locator("span").first).to_have_text(name)
    await expect(guests.locator("span")).to_have_text(["Dan", "Cem", "Ada", "Bob"])
    await expect(guests.nth(2).get_by_placeholder("wishes")).to_have_value("by the window")
