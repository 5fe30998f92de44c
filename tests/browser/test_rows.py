"""Rows that repeat: what their events carry in `context`, and what stays where it is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest
from playwright.async_api import Page, expect
from tests.browser.conftest import Server, Visit, Watch

Serve = Callable[..., Server]


@pytest.fixture
def rows(serve: Serve) -> Server:
    return serve("greenroom", "run", "tests/browser/pages/rows")


async def opened(visit: Visit, rows: Server) -> Page:
    page = await visit(rows.url)
    await expect(page.locator("#people button")).to_have_text(["Ada", "Bob", "Cem"])
    return page


async def arrange(page: Page, *keys: str) -> None:
    await page.evaluate("keys => gr.call('arrange', keys)", keys)
    await expect(page.locator("#people button")).to_have_text([key.title() for key in keys])


async def test_a_click_in_a_row_of_a_dict_knows_its_key(visit: Visit, rows: Server) -> None:
    page = await opened(visit, rows)
    await page.get_by_role("button", name="Bob").click()
    await expect(page.locator("#people i")).to_have_text(["", "Clicked", ""])


async def test_a_click_in_a_row_of_a_list_knows_its_index(visit: Visit, rows: Server) -> None:
    page = await opened(visit, rows)
    await page.get_by_role("button", name="two").click()
    await expect(page.locator("#rows i")).to_have_text(["", "Clicked two"])
    await page.evaluate("gr.call('take_rows', ['three', 'two'])")
    await page.get_by_role("button", name="two").click()
    await expect(page.locator("#rows i")).to_have_text(["", "Clicked two"])


async def test_rows_in_rows_carry_the_names_of_all(visit: Visit, rows: Server) -> None:
    page = await opened(visit, rows)
    await page.get_by_role("button", name="z").click()
    await expect(page.locator("#seen")).not_to_have_text("{}")
    assert json.loads(await page.locator("#seen").inner_text()) == {
        "event": "click",
        "target": "guest",
        "floor": "first",
        "level": {"rooms": [{"guests": ["x", "y"]}, {"guests": ["z"]}]},
        "number": 1,
        "room": {"guests": ["z"]},
        "keyVariable": 0,
        "valueVariable": "z",
        "handler": "see",
        "label": "main",
    }


async def test_no_session_sees_the_context_of_another(visit: Visit, rows: Server) -> None:
    pages = [await opened(visit, rows) for _ in range(3)]
    names = ["Ada", "Bob", "Cem"]
    buttons = [
        page.get_by_role("button", name=name) for page, name in zip(pages, names, strict=True)
    ]
    for _ in range(5):  # at once, again and again
        await asyncio.gather(*(button.click() for button in buttons))
    for page, name in zip(pages, names, strict=True):
        wanted = ["Clicked" if one == name else "" for one in names]
        await expect(page.locator("#people i")).to_have_text(wanted)


async def test_rows_keep_their_elements_when_others_come_and_go(visit: Visit, rows: Server) -> None:
    page = await opened(visit, rows)
    await page.evaluate(
        "document.querySelectorAll('#people li').forEach((e, i) => (e.dataset.was = i))"
    )
    for keys in (
        *(["cem", "ada", "bob"], ["dan", "cem", "bob"], ["bob", "eve", "cem", "dan"]),
        *(["bob"], [], ["bob"]),
    ):
        before = await page.locator("#people li").evaluate_all(WAS)
        await arrange(page, *keys)
        after = await page.locator("#people li").evaluate_all(WAS)
        assert [name for name, _ in after] == [*(key.title() for key in keys), "after the rows"]
        for name, was in after:
            known = [old for other, old in before if other == name]
            assert [was] == (known or [None]), (keys, name)


WAS = """all => all.map((e) => [
    e.querySelector("button")?.textContent ?? e.textContent, e.dataset.was ?? null])"""


async def test_what_has_the_focus_keeps_it_when_rows_move(visit: Visit, rows: Server) -> None:
    page = await opened(visit, rows)
    await page.evaluate(
        "addEventListener('focusout', () => (globalThis.left = (globalThis.left ?? 0) + 1), true)"
    )
    field = page.locator("#people input").nth(1)
    await field.focus()
    await field.press("End")
    await page.keyboard.type("b")
    for keys in (
        *(["bob", "ada", "cem"], ["cem", "ada", "bob"], ["new", "bob"], ["bob", "x", "y"]),
        *(["x", "bob", "new", "y"], ["ada", "y", "bob"]),
    ):
        await arrange(page, *keys)
        bound = page.locator("#people input").nth(keys.index("bob"))
        await expect(bound).to_be_focused()
        await page.keyboard.type("!")
    await expect(bound).to_have_value("Bobb" + "!" * 6)  # what is typed stays, with its caret
    assert await page.evaluate("globalThis.left ?? 0") == 0
    await page.keyboard.press("Enter")
    button = page.locator("#people button").nth(2)
    await expect(button).to_have_text("Bobb!!!!!!")  # and went to the row it was typed in


async def test_rows_of_a_list_stay_by_their_place(visit: Visit, rows: Server) -> None:
    page = await opened(visit, rows)
    first = page.locator("#rows input").first
    await first.fill("a note")
    await page.evaluate("gr.call('take_rows', ['zero', 'one', 'two'])")
    await expect(page.locator("#rows button")).to_have_text(["zero", "one", "two"])
    await expect(first).to_have_value("a note")
    await expect(first).to_be_focused()
    await page.evaluate("gr.call('take_rows', ['two'])")
    await expect(page.locator("#rows button")).to_have_text(["two"])
    await expect(first).to_have_value("a note")


async def test_the_field_of_a_form_shows_the_state_again_when_the_form_was_answered(
    visit: Visit, rows: Server, watch: Watch
) -> None:
    watch.expect("chat was refused")
    page = await opened(visit, rows)
    field = page.locator("#chat [name=text]")
    for said in (["hello"], ["hello", "you"]):
        await field.press_sequentially(said[-1])
        await field.press("Enter")
        await expect(page.locator("#said")).to_have_text(json.dumps(said, separators=(",", ":")))
        await expect(field).to_have_value("")
        await expect(field).to_be_focused()
    await field.press_sequentially("rude")
    async with page.expect_console_message():
        await field.press("Enter")
    await expect(field).to_have_value("rude")  # refused: it stays, to be mended


async def test_a_form_with_a_field_called_id_has_its_own_id(visit: Visit, rows: Server) -> None:
    page = await opened(visit, rows)
    target = await page.evaluate(
        """() => new Promise((done) => {
            gr.onFrame((way, { type, context }) => type === "chat" && done(context.target));
            document.getElementById("chat").requestSubmit();
        })"""
    )
    assert target == "chat"


async def test_an_attribute_that_does_not_exist_is_said(
    visit: Visit, rows: Server, watch: Watch
) -> None:
    watch.expect("there is no attribute data-gr-txt$")
    page = await opened(visit, rows)
    await page.evaluate(
        """() => {
            document.body.insertAdjacentHTML("beforeend", '<p id="odd" data-gr-txt="draft"></p>');
            gr.bind(document.getElementById("odd"));
        }"""
    )
    assert len(watch.faults) == 1


async def test_a_payload_that_does_not_fit_says_what_was_expected(
    visit: Visit, rows: Server
) -> None:
    page = await opened(visit, rows)
    error = await page.evaluate("gr.call('take_rows', ['a', 2]).catch((e) => [e.code, e.message])")
    assert error == [
        "bad_payload",
        "the payload does not fit handler take_rows: Expected `str`, got `int` - at `$[1]`",
    ]
