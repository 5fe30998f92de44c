"""A field whose user types on while what they sent is on its way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from playwright.async_api import Page, expect
from tests.browser.conftest import Server, Visit, Watch

Serve = Callable[..., Server]

# What is typed in one step with the sending cannot come after its answer.
HELP = """
const type = (text) => document.execCommand("insertText", false, text);
const answered = () => new Promise((done) => {
    const off = gr.onFrame((way, { type }) => {
        if (way === "out" || (type !== "gr:result" && type !== "gr:error")) return;
        setTimeout(() => (off(), done()));
    });
});
"""


async def opened(visit: Visit, serve: Serve) -> Page:
    page = await visit(serve("greenroom", "run", "tests/browser/pages/forms").url)
    await page.evaluate("gr.ready.then(() => null)")
    return page


async def typed(page: Page, steps: str) -> list[Any]:
    """The field's text, with its caret, when the first event of `steps` was answered."""
    return list(
        await page.evaluate(
            f"""async () => {{
                {HELP}
                const done = answered();
                {steps}
                await done;
                const field = document.activeElement;
                return [field.value, field.selectionStart];
            }}"""
        )
    )


async def said(page: Page, *messages: str) -> None:
    await page.evaluate("gr.call('put_in', [])")  # all before it was answered
    assert await page.evaluate("gr.get('messages')") == list(messages)


async def test_what_was_typed_since_stays_and_what_was_sent_goes(
    visit: Visit, serve: Serve
) -> None:
    page = await opened(visit, serve)
    send = "message.focus(); type('hello'); chat.requestSubmit();"
    assert await typed(page, send) == ["", 0]
    assert await typed(page, f"{send} type('next');") == ["next", 4]
    assert await typed(
        page, f"message.select(); {send} type('abc'); message.selectionEnd = 6;"
    ) == [
        "abc",
        1,
    ]
    await said(page, "hello", "hello", "hello")


async def test_a_text_that_was_begun_anew_stays_whole(visit: Visit, serve: Serve) -> None:
    page = await opened(visit, serve)
    send = "message.focus(); type('hello'); chat.requestSubmit(); message.select();"
    assert await typed(page, f"{send} type('another');") == ["another", 7]
    assert await typed(page, f"message.select(); {send} type('hell');") == ["hell", 4]


async def test_two_messages_before_the_first_answer(visit: Visit, serve: Serve) -> None:
    page = await opened(visit, serve)
    await typed(
        page,
        """message.focus(); type("a"); chat.requestSubmit();
        message.select(); type("b"); chat.requestSubmit();""",
    )
    await said(page, "a", "b")
    await expect(page.locator("#message")).to_have_value("")


async def test_a_field_that_the_page_empties_itself(visit: Visit, serve: Serve) -> None:
    page = await opened(visit, serve)
    send = "message.focus(); type('hello'); chat.requestSubmit();"
    await page.evaluate("chat.addEventListener('submit', () => chat.reset())")
    assert await typed(page, f"{send} type('next');") == ["next", 4]
    assert await typed(page, f"message.select(); {send}") == ["", 0]
    await said(page, "hello", "hello")


async def test_a_refused_message_stays_with_what_follows(
    visit: Visit, serve: Serve, watch: Watch
) -> None:
    watch.expect("say was refused")
    page = await opened(visit, serve)
    send = "message.focus(); type('rude'); chat.requestSubmit();"
    assert await typed(page, f"{send} type('ly');") == ["rudely", 6]


async def test_a_field_that_was_changed_and_typed_on(visit: Visit, serve: Serve) -> None:
    page = await opened(visit, serve)
    change = "loud.dispatchEvent(new Event('change'));"
    assert await typed(page, f"loud.focus(); type('abc'); {change} type('d');") == ["ABCd", 4]
    assert await typed(page, f"loud.blur(); loud.focus(); {change}") == ["ABCD", 4]


async def test_a_field_that_sends_while_it_is_typed_waits_for_the_end(
    visit: Visit, serve: Serve
) -> None:
    page = await opened(visit, serve)
    await page.evaluate(f"() => {{ {HELP} louder.focus(); type('abc'); globalThis.type = type; }}")
    seen = await page.evaluate(
        """() => new Promise((done) => {
            const seen = [];
            gr.subscribe("shouted", (value) => {
                type("d"); // each time the answer is older than the text
                setTimeout(() => seen.push(louder.value) === 3 && done(seen));
            });
        })"""
    )
    assert seen == ["abcd", "abcdd", "abcddd"]


async def test_letters_that_are_being_composed_are_left_alone(visit: Visit, serve: Serve) -> None:
    page = await opened(visit, serve)
    keys = await page.context.new_cdp_session(page)
    await page.locator("#message").focus()
    await page.keyboard.type("hello")
    # Its answer waits until the next text is half composed.
    await page.evaluate(
        """() => {
            globalThis.sent = gr.call;
            gr.call = (...all) => new Promise((done) => {
                globalThis.letGo = () => done(sent.apply(gr, all));
            });
            chat.requestSubmit();
            gr.call = sent;
        }"""
    )
    await keys.send(
        "Input.imeSetComposition", {"text": "に", "selectionStart": 1, "selectionEnd": 1}
    )
    await page.evaluate("letGo()")
    await said(page, "hello")
    await expect(page.locator("#message")).to_have_value("helloに")
    await keys.send(
        "Input.imeSetComposition", {"text": "にほ", "selectionStart": 2, "selectionEnd": 2}
    )
    await keys.send("Input.insertText", {"text": "日本"})
    await expect(page.locator("#message")).to_have_value("日本")
    await page.keyboard.press("Enter")
    await expect(page.locator("#message")).to_have_value("")
    await said(page, "hello", "日本")
