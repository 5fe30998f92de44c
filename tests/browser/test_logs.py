"""The log in the page: what a handler prints is shown in the panel of exactly its session."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.async_api import Page, expect
from tests.browser.conftest import Server, Visit

TOUR = ("greenroom", "run", "examples/tour")
MAIN = """
import asyncio
import logging

import greenroom as gr

logger = logging.getLogger("shop")


def say(payload):
    print(f"{payload} said", end="")
    print(" aloud")
    logger.warning("%s was heard", payload)


async def later(payload):
    await asyncio.to_thread(print, f"{payload} from a thread")


def fail(payload):
    print(f"{payload} fails")
    raise LookupError("<b>no such chair</b>")
"""

Serve = Callable[..., Server]


@pytest.fixture
def open_tour(serve: Serve) -> Server:
    """The tour where everybody may see what handlers print."""
    return serve(*TOUR, "--debug", GREENROOM_TOUR_SPEED="20")


async def reserve(page: Page, name: str) -> None:
    await page.get_by_label("Name").fill(name)
    await page.get_by_label("Email").fill("a@b.c")
    await page.get_by_label("Seats").fill("1")
    await page.locator("#form").get_by_role("button", name="Reserve").click()
    await expect(page.locator("#booking-outcome")).to_contain_text(f"Thank you, {name}")


async def test_a_print_is_shown_in_the_panel_of_its_session_alone(
    visit: Visit, open_tour: Server
) -> None:
    ada, bob = await visit(open_tour.url), await visit(open_tour.url)
    for page in (ada, bob):
        await expect(page.locator("#status-text")).to_have_text("live")
        await expect(page.locator("#log-note")).to_be_visible()
    await reserve(ada, "Ada")
    await expect(ada.locator("#log-list li .text")).to_have_text(["Ada takes 1 of the seats"])
    await expect(ada.locator("#log-note")).to_be_hidden()
    await expect(bob.locator("#log-list li")).to_have_count(0)
    await reserve(bob, "Bob")
    await expect(bob.locator("#log-list li .text")).to_have_text(["Bob takes 1 of the seats"])
    await expect(ada.locator("#log-list li")).to_have_count(1)
    said = "".join(open_tour.log)
    assert "Ada takes 1 of the seats\n" in said  # and in the terminal
    assert "Bob takes 1 of the seats\n" in said


async def test_a_failure_is_shown_with_its_traceback(visit: Visit, open_tour: Server) -> None:
    page = await visit(open_tour.url)
    await page.locator("#crash-button").click()
    row = page.locator('#log-list li[data-level="error"]')
    await expect(row.locator(".text")).to_have_text(
        "'crash' failed: RuntimeError: the trapdoor opened"
    )
    await expect(row.locator("pre")).to_be_hidden()
    await row.locator("summary").click()
    await expect(row.locator("pre")).to_contain_text("in crash")


async def test_without_debug_nothing_of_it_reaches_the_page(visit: Visit, serve: Serve) -> None:
    page = await visit(serve(*TOUR, GREENROOM_TOUR_SPEED="20").url)
    await reserve(page, "Eve")
    await page.locator("#crash-button").click()
    await expect(page.locator("#crash-outcome")).to_contain_text("handler_error")
    await expect(page.locator('#frames-list li[data-type="gr:log"]')).to_have_count(0)
    await expect(page.locator("#log-list li")).to_have_count(0)
    await expect(page.locator("#log-note")).to_contain_text("--debug")


async def test_the_page_that_debug_makes_shows_it_as_text(
    visit: Visit, serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "main.py").write_text(MAIN)
    server = serve("greenroom", "run", str(tmp_path), "--debug")
    page, other = await visit(server.url), await visit(server.url)
    for each in (page, other):
        await expect(each.locator("#status")).to_have_text("live")

    async def call(handler: str) -> None:
        form = page.locator(f'form[data-handler="{handler}"]')
        await form.locator("input").fill('"Ada"')
        await form.get_by_role("button").click()

    rows = page.locator("#log li")
    await call("say")
    await expect(rows).to_have_count(3)
    await call("later")
    await expect(rows).to_have_count(5)
    await call("fail")
    await expect(rows).to_have_count(8)
    shown = [text for text in await rows.all_text_contents() if not re.match(r"\w+: ", text)]
    assert shown[::-1] == [
        *("Ada said aloud", "Ada was heard", "Ada from a thread", "Ada fails"),
        "'fail' failed: LookupError: <b>no such chair</b>",
    ]
    await expect(page.locator("#log b")).to_have_count(0)
    await expect(other.locator("#log li")).to_have_count(0)
