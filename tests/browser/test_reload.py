"""`greenroom run --reload` as seen from a page: it stays, keeps its state, shows what is broken."""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect
from tests.browser.conftest import Visit, Watch
from tests.support.server import ServerProcess

MAIN = """
    import greenroom as gr
    gr.init_state({"counter": 0})

    def add(state):
        state["counter"] += 1
"""
PAGE = """
    <!doctype html>
    <meta charset="utf-8">
    <title>Counter</title>
    <link rel="icon" href="data:,">
    <link rel="stylesheet" href="./looks.css">
    <script type="module" src="./greenroom/page.js"></script>
    <h1>One</h1>
    <output data-gr-text="counter"></output>
    <p data-gr-text="fresh"></p>
    <button data-gr-on:click="add">add</button>
"""


def save(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))


Start = Callable[..., Coroutine[Any, Any, ServerProcess]]


@pytest.fixture
def reloading() -> Generator[Start]:
    """``await reloading(folder, ...)``. Ask for it before ``visit``: a page misses its server."""
    servers: list[ServerProcess] = []

    async def start(folder: Path, *options: str) -> ServerProcess:
        servers.append(server := ServerProcess(folder, "--reload", *options))
        await asyncio.to_thread(server.start)
        await asyncio.to_thread(server.said, "watching")
        return server

    yield start
    for server in servers:
        server.kill()


async def is_the_same(page: Page) -> bool:
    return bool(await page.evaluate("globalThis.mark === 'was here'"))


async def test_a_page_lives_through_new_code_and_shows_what_is_broken(
    reloading: Start, visit: Visit, watch: Watch, tmp_path: Path
) -> None:
    save(tmp_path / "main.py", MAIN)
    save(tmp_path / "public" / "index.html", PAGE)
    save(tmp_path / "public" / "looks.css", "h1 { color: rgb(1, 2, 3); }")
    server = await reloading(tmp_path)
    url = f"http://127.0.0.1:{server.port}/"
    page = await visit(url)
    counter = page.locator("output")
    await expect(counter).to_have_text("0")
    await page.get_by_role("button", name="add").click()
    await expect(counter).to_have_text("1")
    await page.evaluate("globalThis.mark = 'was here'")

    # New code: the page stays, the counter keeps its value, a new key arrives.
    save(tmp_path / "main.py", MAIN.replace("+= 1", "+= 10").replace("0}", '5, "fresh": "hi"}'))
    await expect(page.locator("p")).to_have_text("hi")
    await expect(counter).to_have_text("1")
    await page.get_by_role("button", name="add").click()
    await expect(counter).to_have_text("11")

    # Broken code: its traceback lies over the page, and the old goes on below.
    save(tmp_path / "main.py", MAIN + "\n\n    1 / <b>0</b>\n")
    overlay = page.locator(".gr-broken")
    await expect(overlay).to_contain_text("SyntaxError")
    await expect(overlay).to_contain_text("main.py")
    await expect(overlay).to_contain_text("<b>0</b>")  # as text
    late = await visit(url)  # whoever comes now sees it, too
    await expect(late.locator(".gr-broken")).to_contain_text("SyntaxError")
    await expect(late.locator("output")).to_have_text("5")
    await overlay.get_by_role("button", name="Hide").click()
    await expect(overlay).to_have_count(0)
    await page.get_by_role("button", name="add").click()
    await expect(counter).to_have_text("21")

    # The repair takes it away.
    save(tmp_path / "main.py", MAIN)
    await expect(late.locator(".gr-broken")).to_have_count(0)
    await page.get_by_role("button", name="add").click()
    await expect(counter).to_have_text("22")
    assert await is_the_same(page)

    # What pages are made of: they load again, and the session is still the one it was.
    await expect(page.locator("h1")).to_have_css("color", "rgb(1, 2, 3)")
    save(tmp_path / "public" / "looks.css", "h1 { color: rgb(4, 5, 6); }")
    await expect(page.locator("h1")).to_have_css("color", "rgb(4, 5, 6)")
    assert not await is_the_same(page)
    await expect(counter).to_have_text("22")
    save(tmp_path / "public" / "index.html", PAGE.replace("One", "Two"))
    await expect(page.locator("h1")).to_have_text("Two")
    await expect(counter).to_have_text("22")


async def test_views_and_the_debug_page_load_again_when_they_changed(
    reloading: Start, visit: Visit, watch: Watch, tmp_path: Path
) -> None:
    main = """
        import greenroom as gr
        gr.init_state({"counter": 3})
        gr.show("<h1>{0}</h1><output data-gr-text='counter'></output>", label="panel")

        def {1}(state):
            state["counter"] += 1
    """
    watch.expect("404")  # a view has no icon
    save(tmp_path / "main.py", main.replace("{0}", "One").replace("{1}", "add"))
    server = await reloading(tmp_path, "--debug")
    url = f"http://127.0.0.1:{server.port}/"
    panel, debug = await visit(url + "view/panel"), await visit(url)
    await expect(panel.locator("output")).to_have_text("3")
    await expect(debug.locator("form[data-handler=add]")).to_be_visible()
    save(tmp_path / "main.py", main.replace("{0}", "Two").replace("{1}", "more"))
    await expect(panel.locator("h1")).to_have_text("Two")
    await expect(panel.locator("output")).to_have_text("3")
    await expect(debug.locator("form[data-handler=more]")).to_be_visible()
