"""Forms and fields: in which order their events arrive, and what of a form is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.async_api import Page, expect
from tests.browser.conftest import Server, Visit, Watch

Serve = Callable[..., Server]

ORDER = {
    "files": [],
    "item": "chair",
    "note": "soon",
    "gift": True,
    "tags": ["new", "rare"],
}


async def opened(visit: Visit, serve: Serve) -> Page:
    page = await visit(serve("greenroom", "run", "tests/browser/pages/forms").url)
    await page.evaluate("gr.ready")
    return page


async def heard(page: Page, count: int) -> Any:
    """The first ``count`` events of this session, as the server heard them."""
    return await page.evaluate(
        """(count) => new Promise((done) => {
            const look = (all) => all.length >= count && done(all);
            gr.subscribe("heard", look);
            look(gr.get("heard"));
        })""",
        count,
    )


async def test_what_was_typed_is_heard_before_the_click_that_follows(
    visit: Visit, serve: Serve
) -> None:
    page = await opened(visit, serve)
    await page.evaluate(
        """() => {
            query.value = "chai";
            query.dispatchEvent(new Event("input"));
            go.click();
        }"""
    )
    assert await heard(page, 2) == [["query", "chai"], ["go", 7]]


async def test_a_form_sends_what_stood_in_it_when_it_was_submitted(
    visit: Visit, serve: Serve
) -> None:
    page = await opened(visit, serve)
    await page.evaluate(
        "() => { const form = document.forms[0]; form.requestSubmit(); form.reset(); }"
    )
    form = page.locator("#order")
    await form.locator("[name=item]").fill("table")
    files: Any = {"name": "a.bin", "mimeType": "", "buffer": b"x" * 300_000}  # beside the stream
    await form.locator("[name=files]").set_input_files(files)
    await page.evaluate(
        """() => {
            const form = document.forms[0];
            form.requestSubmit();
            form.elements.namedItem("item").value = "the next one";
        }"""
    )
    [first, second] = await heard(page, 2)
    assert first == ["order", ORDER]
    assert second[1].pop("files")[0]["data"]["size"] == 300_000
    assert second[1] == {name: value for name, value in ORDER.items() if name != "files"} | {
        "item": "table"
    }


async def test_a_form_says_by_which_button_it_was_sent(visit: Visit, serve: Serve) -> None:
    page = await opened(visit, serve)
    await page.get_by_role("button", name="Order and mail").click()
    await page.get_by_role("button", name="Order", exact=True).click()
    assert await heard(page, 2) == [["order", ORDER | {"also": "mail"}], ["order", ORDER]]


async def test_an_empty_list_is_not_shown(visit: Visit, serve: Serve) -> None:
    page = await opened(visit, serve)
    basket = page.locator("#basket")
    for content in ([], ["chair"], []):
        await page.evaluate("content => gr.call('put_in', content)", content)
        await expect(basket).to_be_visible(visible=bool(content))


async def test_what_is_hidden_is_hidden_whatever_the_page_says(visit: Visit, serve: Serve) -> None:
    page = await opened(visit, serve)
    await page.evaluate(
        """() => {
            const sheet = new CSSStyleSheet();
            sheet.replaceSync("p { display: flex !important }");
            document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
            const host = document.body.appendChild(document.createElement("div"));
            const root = host.attachShadow({ mode: "open" });
            root.innerHTML = '<p id="shadow" data-gr-show="basket">in it</p>';
            root.querySelector("p").style.display = "flex";
            gr.bind(root);
        }"""
    )
    for content in ([], ["chair"], []):
        await page.evaluate("content => gr.call('put_in', content)", content)
        for place in ("#basket", "#shadow"):
            await expect(page.locator(place)).to_be_visible(visible=bool(content))


async def test_a_range_reaches_as_far_as_the_state_says(visit: Visit, serve: Serve) -> None:
    page = await opened(visit, serve)
    await expect(page.locator("#volume")).to_have_value("150")


async def test_radio_buttons_show_the_state_again_when_it_stays_as_it_was(
    visit: Visit, serve: Serve
) -> None:
    page = await opened(visit, serve)
    small, large = page.locator("[value=S]"), page.locator("[value=L]")
    await expect(small).to_be_checked()
    await large.click()
    await heard(page, 1)  # whose handler leaves the size alone
    await expect(large).not_to_be_checked()
    await expect(small).to_be_checked()


async def test_a_choice_that_was_refused_is_taken_back(
    visit: Visit, serve: Serve, watch: Watch
) -> None:
    watch.expect("refuse was refused")
    page = await opened(visit, serve)
    form = page.locator("#strict")
    await form.locator("[name=agreed]").click()
    await expect(form.locator("[name=agreed]")).not_to_be_checked()
    await form.locator("[name=level]").fill("7")
    await expect(form.locator("[name=level]")).to_have_value("3")
    await form.locator("[name=city]").select_option("rome")
    await expect(form.locator("[name=city]")).to_have_value("bern")
    await form.locator("[value=paid]").click()
    await expect(form.locator("[value=free]")).to_be_checked()


async def test_what_was_typed_or_filled_in_is_refused_and_stays(visit: Visit, serve: Serve) -> None:
    page = await opened(visit, serve)
    refused = "() => new Promise((done) => gr.on('gr:error', () => setTimeout(done)))"
    form = page.locator("#strict")
    await form.locator("[name=title]").fill("two")
    await page.evaluate(f"() => {{ globalThis.first = ({refused})(); }}")
    await form.locator("[name=title]").blur()
    await page.evaluate("first")
    await form.locator("[name=extra]").click()
    await page.evaluate(f"() => {{ strict.requestSubmit(); return ({refused})(); }}")
    await expect(form.locator("[name=title]")).to_have_value("two")
    await expect(form.locator("[name=extra]")).to_be_checked()


@pytest.mark.parametrize(
    ("field", "said"), [("draft", "mine"), ("drafts.elements.draft", {"draft": "mine"})]
)
async def test_a_field_that_is_left_at_once_is_sent_and_not_overwritten(
    visit: Visit, serve: Serve, field: str, said: object
) -> None:
    page = await opened(visit, serve)
    await page.evaluate(
        """(at) => {
            const field = at.split(".").reduce((from, name) => from[name], globalThis);
            gr.call("write", "theirs"); // its patch comes when the field was left
            field.focus();
            field.value = "mine";
            field.dispatchEvent(new Event("input", { bubbles: true }));
            field.blur();
        }""",
        field,
    )
    assert [what for _, what in await heard(page, 1)] == [said]


async def test_what_was_typed_last_arrives_when_the_page_is_left(
    visit: Visit, serve: Serve
) -> None:
    page = await opened(visit, serve)
    texts = ["one", "two", "three"]
    for text in texts:
        async with page.expect_event("load"):
            await page.evaluate(
                """(text) => {
                    query.focus();
                    query.value = text;
                    query.dispatchEvent(new Event("input", { bubbles: true }));
                    location.reload();
                }""",
                text,
            )
        await page.evaluate("gr.ready.then(() => null)")
    assert await heard(page, 3) == [["query", text] for text in texts]


async def test_what_was_typed_last_is_sent_when_the_page_is_hidden(
    visit: Visit, serve: Serve
) -> None:
    page = await opened(visit, serve)
    sent = await page.evaluate(
        """() => {
            const frames = [];
            gr.onFrame((way, frame) => way === "out" && frames.push(frame.text));
            query.value = "now";
            query.dispatchEvent(new Event("input", { bubbles: true }));
            const before = frames.length;
            Object.defineProperty(document, "visibilityState", { value: "hidden" });
            document.dispatchEvent(new Event("visibilitychange"));
            return [before, frames.length];
        }"""
    )
    assert sent == [0, 1]
    assert await heard(page, 1) == [["query", "now"]]


async def busy(page: Page, now: bool) -> None:
    """Disable and hide what a call of its own would; the browser has taken the focus away then."""
    await page.evaluate(
        """async (now) => {
            await gr.call("set_busy", now);
            await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
        }""",
        now,
    )


@pytest.mark.parametrize("place", ["#work", "#inside", "#idle", "#alive"])
async def test_what_was_disabled_or_hidden_for_a_while_has_the_focus_again(
    visit: Visit, serve: Serve, place: str
) -> None:
    page = await opened(visit, serve)
    for _ in range(2):
        await page.locator(place).focus()
        await page.evaluate("inside.setSelectionRange(2, 3)")
        await busy(page, True)
        assert await page.evaluate("document.activeElement.tagName") == "BODY"
        await busy(page, False)
        await expect(page.locator(place)).to_be_focused()
    if place == "#inside":
        await page.keyboard.type("-")
        await expect(page.locator(place)).to_have_value("ty-ed")


async def test_the_focus_stays_with_what_took_it_meanwhile(visit: Visit, serve: Serve) -> None:
    page = await opened(visit, serve)
    work, query = page.locator("#work"), page.locator("#query")
    await work.focus()
    await busy(page, True)
    await query.focus()
    await busy(page, False)
    await expect(query).to_be_focused()
    await work.focus()
    await busy(page, True)
    await query.focus()
    await query.blur()  # its user went elsewhere
    await busy(page, False)
    assert await page.evaluate("document.activeElement.tagName") == "BODY"
    for now in (True, False):  # and what never had it gets none
        await busy(page, now)
    assert await page.evaluate("document.activeElement.tagName") == "BODY"
    await work.focus()
    await busy(page, True)
    await page.evaluate(
        """() => {
            const frame = document.body.appendChild(document.createElement("iframe"));
            const field = frame.contentDocument.createElement("input");
            frame.contentDocument.body.append(field);
            field.focus();
        }"""
    )
    await busy(page, False)
    assert await page.evaluate("document.activeElement.tagName") == "IFRAME"
    await work.focus()
    await busy(page, True)
    await work.evaluate("work => work.remove()")
    await busy(page, False)
    assert await page.evaluate("document.activeElement.tagName") == "BODY"


async def test_a_click_by_keyboard_leaves_the_focus_where_it_was(
    visit: Visit, serve: Serve
) -> None:
    page = await opened(visit, serve)
    await page.evaluate(
        """() => {
            work.addEventListener("click", async () => {
                await gr.call("set_busy", true);
                await gr.call("set_busy", false);
                work.dataset.done = Number(work.dataset.done ?? 0) + 1;
            });
            work.focus();
        }"""
    )
    for count in (1, 2, 3):
        await page.keyboard.press("Enter")
        await expect(page.locator("#work")).to_have_attribute("data-done", str(count))
        await expect(page.locator("#work")).to_be_focused()


async def test_a_question_in_between_does_not_take_the_focus_away(
    visit: Visit, serve: Serve
) -> None:
    page = await opened(visit, serve)
    await page.locator("#work").focus()
    await busy(page, True)
    await page.evaluate("gr.perform('gr:confirm', { message: 'Really?', call: 1 })")
    yes = page.get_by_role("button", name="OK")
    await expect(yes).to_be_focused()
    await yes.press("Enter")
    await expect(page.get_by_role("alertdialog")).to_have_count(0)
    await busy(page, False)
    await expect(page.locator("#work")).to_be_focused()
