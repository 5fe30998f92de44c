"""examples/long_work in a browser: progress that moves, and buttons that end things."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.async_api import Locator, Page, expect
from tests.browser.conftest import Server, Visit

LONG_WORK = ("greenroom", "run", "examples/long_work")

Serve = Callable[..., Server]


@pytest.fixture
def quick(serve: Serve) -> Server:
    """What takes time takes a fifth of a second."""
    return serve(*LONG_WORK, GREENROOM_TOUR_SPEED="15")


@pytest.fixture
def slow(serve: Serve) -> Server:
    """What takes time takes five minutes, a step at a time: nothing ends by itself."""
    return serve(*LONG_WORK, GREENROOM_TOUR_SPEED="0.01")


def button(page: Page, section: str, name: str) -> Locator:
    return page.locator(f"#{section}").get_by_role("button", name=name, exact=True)


async def test_everything_ends_and_says_so(visit: Visit, quick: Server) -> None:
    page = await visit(quick.url)
    await button(page, "job", "start").click()
    await button(page, "sum", "count primes").click()
    await expect(page.locator("#job output")).to_have_text("done")
    await expect(page.locator("#job progress")).to_have_js_property("value", 30)
    await expect(page.locator("#sum output")).to_have_text("25997 primes", timeout=40_000)
    await button(page, "turn", "think").click()
    await expect(page.locator("#answer")).to_have_text("30 steps")
    await expect(page.locator(".dots")).to_have_text("." * 30)


async def test_a_job_is_cancelled_while_the_session_goes_on(visit: Visit, slow: Server) -> None:
    page = await visit(slow.url)
    await expect(button(page, "job", "cancel")).to_be_hidden()
    await button(page, "job", "start").click()
    await expect(page.locator("#job output")).to_have_text("working")
    await expect(button(page, "job", "start")).to_be_disabled()
    await button(page, "click", "click").click()
    await expect(page.locator("#click output")).to_have_text("1")
    await button(page, "job", "cancel").click()
    await expect(page.locator("#job output")).to_have_text("cancelled")
    await expect(button(page, "job", "start")).to_be_enabled()


async def test_a_long_turn_keeps_others_waiting_until_its_client_cancels_it(
    visit: Visit, slow: Server
) -> None:
    page = await visit(slow.url)
    await button(page, "turn", "think").click()
    await button(page, "click", "click").click()
    await expect(page.locator("#click output")).to_have_text("0")
    await button(page, "turn", "cancel").click()
    await expect(page.locator("#answer")).to_have_text("cancelled")
    await expect(page.locator("#click output")).to_have_text("1")
    await expect(page.locator(".dots")).to_be_empty()
