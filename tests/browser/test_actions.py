"""What the server can ask of a page, one action after the other, with all their fields."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Dialog, Locator, Page, expect
from tests.browser.conftest import Server, Visit, Watch

Serve = Callable[..., Server]


@pytest.fixture
def actions(serve: Serve) -> Server:
    return serve("greenroom", "run", "tests/browser/pages/actions", GREENROOM_LOG_TO_CLIENT="1")


async def opened(visit: Visit, actions: Server, **options: Any) -> Page:
    page = await visit(actions.url, **options)
    await page.evaluate("gr.ready.then(() => null)")
    return page


async def call(page: Page, handler: str, payload: Any = None) -> Any:
    return await page.evaluate("([name, data]) => gr.call(name, data)", [handler, payload])


async def act(page: Page, verb: str, *args: Any, **fields: Any) -> None:
    await call(page, "act", {"verb": verb, "args": list(args), "fields": fields})


async def raw(page: Page, type: str, **data: Any) -> None:
    """What an older or newer server could ask for."""
    await call(page, "raw", {"type": type, "data": data})


async def called(page: Page, count: int) -> Any:
    """What the page's functions were called with, when they were called so often."""
    while len(calls := await page.evaluate("called")) < count:
        pass  # asking takes a while
    return calls


async def focused(page: Page) -> str:
    return str(await page.evaluate("document.activeElement.textContent"))


# -- notify -------------------------------------------------------------------------------------


def toasts(page: Page, corner: str = "top-right") -> Locator:
    return page.locator(f".gr-toasts.gr-{corner} .gr-toast")


async def test_a_toast_has_message_title_kind_and_place(visit: Visit, actions: Server) -> None:
    page = await opened(visit, actions)
    for kind, corner, role in (
        ("info", "top-left", "status"),
        ("success", "top-center", "status"),
        ("warning", "bottom-left", "status"),
        ("error", "bottom-center", "alert"),
    ):
        await act(page, "notify", f"<b>{kind}</b>", title="T & t", kind=kind, position=corner)
        toast = toasts(page, corner)
        await expect(toast.locator(".gr-toast-message")).to_have_text(f"<b>{kind}</b>")
        await expect(toast.locator(".gr-toast-title")).to_have_text("T & t")
        await expect(toast).to_have_class(f"gr-toast gr-{kind}")
        await expect(toast).to_have_attribute("role", role)
        box, size = await toast.bounding_box(), page.viewport_size
        assert box
        assert size
        assert (box["y"] < size["height"] / 2) == corner.startswith("top")
        if not corner.endswith("center"):
            assert box["x"] < size["width"] / 2
    await act(page, "notify", "plain")
    await expect(toasts(page).locator(".gr-toast-title")).to_have_count(0)
    await expect(page.get_by_role("region", name="Notifications")).to_have_count(5)


async def test_a_toast_goes_by_itself_unless_somebody_is_there(
    visit: Visit, actions: Server
) -> None:
    page = await opened(visit, actions)
    await page.clock.install(time=0)
    await page.clock.pause_at(60)
    await act(page, "notify", "short", duration=1000)
    await act(page, "notify", "stays", duration=0)
    await act(page, "notify", "as usual")
    await page.clock.run_for(999)
    await expect(toasts(page)).to_have_count(3)
    await page.clock.run_for(1)
    await expect(toasts(page)).to_have_text(["stays×", "as usual×"])
    await toasts(page).filter(has_text="usual").hover()
    await page.clock.run_for(60_000)
    await expect(toasts(page)).to_have_count(2)
    await page.mouse.move(0, 0)
    await page.clock.run_for(5000)
    await expect(toasts(page)).to_have_text("stays×")


async def test_a_toast_is_left_by_keyboard_and_gives_the_focus_back(
    visit: Visit, actions: Server
) -> None:
    page = await opened(visit, actions)
    for key in ("Escape", "Enter"):
        await act(page, "notify", "read me", duration=0)
        await page.locator("#here").focus()
        await page.keyboard.press("Tab")
        await expect(page.get_by_role("button", name="Dismiss")).to_be_focused()
        await page.keyboard.press(key)
        await expect(toasts(page)).to_have_count(0)
        assert await focused(page) == "here"


async def test_what_a_toast_is_not_is_said(visit: Visit, actions: Server, watch: Watch) -> None:
    watch.expect("a toast has no (kind|position)")
    page = await opened(visit, actions)
    await raw(page, "gr:notify", message="odd", kind="purple", position="middle")
    await expect(toasts(page)).to_have_class("gr-toast gr-info")
    assert len(watch.faults) == 2


# -- confirm ------------------------------------------------------------------------------------


def question(page: Page) -> Locator:
    return page.get_by_role("alertdialog")


@pytest.mark.parametrize(("button", "answer"), [("OK", "True"), ("Cancel", "False")])
async def test_a_question_is_asked_when_all_before_it_is_on_the_page(
    visit: Visit, actions: Server, button: str, answer: str
) -> None:
    page = await opened(visit, actions)
    await page.evaluate("gr.send('ask', 60)")
    await expect(question(page).locator("> p")).to_have_text("Delete <b>everything</b>?")
    await expect(question(page).locator("> .gr-buttons")).to_have_text(f"Cancel{'OK'}")
    assert await page.locator("#status").text_content() == "asking"
    assert await toasts(page).count() == 1
    await question(page).get_by_role("button", name=button).click()
    await expect(page.locator("#answer")).to_have_text(answer)
    await expect(page.locator("#status")).to_have_text("asked")
    await expect(question(page)).to_have_count(0)


async def test_a_sync_handler_asks_too(visit: Visit, actions: Server) -> None:
    page = await opened(visit, actions)
    await page.evaluate("gr.send('ask_sync')")
    await expect(question(page)).to_contain_text("Sure?")
    assert await page.locator("#status").text_content() == "asking"
    await question(page).get_by_role("button", name="OK").click()
    await expect(page.locator("#answer")).to_have_text("True")


async def test_a_question_is_a_dialog_for_everybody(visit: Visit, actions: Server) -> None:
    page = await opened(visit, actions)
    await page.locator("#here").focus()
    await page.evaluate("gr.send('ask', 60)")
    await expect(question(page)).to_have_accessible_name("Delete <b>everything</b>?")
    await expect(question(page).get_by_role("button", name="OK")).to_be_focused()
    await expect(question(page).locator("b")).to_have_count(0)
    for _ in range(4):  # the page behind it cannot be reached
        await page.keyboard.press("Tab")
        assert await focused(page) != "here"
    await page.keyboard.press("Escape")
    await expect(page.locator("#answer")).to_have_text("False")
    assert await focused(page) == "here"


async def test_a_question_without_an_answer_goes_away(visit: Visit, actions: Server) -> None:
    page = await opened(visit, actions)
    await page.evaluate("gr.send('ask', 0.2)")
    await expect(page.locator("#answer")).to_have_text("None")
    await expect(page.locator("#status")).to_have_text("asked")
    await expect(question(page)).to_have_count(0)


async def test_of_two_tabs_the_first_wins_and_the_other_is_told(
    visit: Visit, actions: Server
) -> None:
    page = await opened(visit, actions)
    token = await page.evaluate("Object.entries(sessionStorage)[0]")
    tab = await page.context.new_page()
    await tab.add_init_script(f"sessionStorage.setItem(...{json.dumps(token)})")
    await tab.goto(actions.url)
    await tab.evaluate("gr.ready.then(() => null)")
    await page.evaluate("gr.send('ask', 60)")
    for one in (page, tab):
        await expect(question(one)).to_be_visible()
    await question(tab).get_by_role("button", name="Cancel").click()
    for one in (page, tab):
        await expect(one.locator("#answer")).to_have_text("False")
        await expect(question(one)).to_have_count(0)


async def test_with_the_last_view_goes_the_question(visit: Visit, actions: Server) -> None:
    page = await opened(visit, actions)
    before = len(await call(page, "gone"))
    await page.evaluate("gr.send('ask_and_remember')")
    await expect(question(page)).to_be_visible()
    await page.goto("about:blank")
    other = await opened(visit, actions)
    while len(remembered := await call(other, "gone")) == before:
        pass
    assert remembered[-1] is None


async def test_a_page_asks_in_its_own_way(visit: Visit, actions: Server) -> None:
    page = await opened(visit, actions)
    seen: list[str] = []

    async def accept(dialog: Dialog) -> None:
        seen.append(dialog.message)
        await dialog.accept()

    page.on("dialog", accept)
    await page.evaluate("void gr.on('gr:confirm', ({ message }) => window.confirm(message))")
    assert await call(page, "ask", 60) == "True"
    assert seen == ["Delete <b>everything</b>?"]


TOAST = "text => gr.perform('gr:notify', { message: text, duration: 0 })"


async def test_toasts_can_be_read_and_closed_while_a_question_stands(
    visit: Visit, actions: Server
) -> None:
    page = await opened(visit, actions)
    for text in ("first", "second"):
        await page.evaluate(TOAST, text)
    await page.evaluate("gr.send('ask', 60)")
    await expect(question(page)).to_be_visible()
    for text in ("third", "fourth", "fifth"):
        await page.evaluate(TOAST, text)
    for text in ("first", "third"):  # shown before it, and while it stands
        await expect(page.get_by_role("status").filter(has_text=text)).to_be_visible()
        toast = toasts(page).filter(has_text=text)
        await toast.get_by_role("button", name="Dismiss").click()
        await expect(toast).to_have_count(0)
    assert await focused(page) == "OK"
    await page.keyboard.press("Tab")  # to the oldest, and a key leaves it
    for key in ("Enter", "Escape"):
        await expect(toasts(page).get_by_role("button").first).to_be_focused()
        await page.keyboard.press(key)
        assert await focused(page) == "OK"
        await page.keyboard.press("Tab")
    await expect(question(page)).to_be_visible()  # Escape was the toast's
    await question(page).get_by_role("button", name="Cancel").click()
    await expect(page.locator("#answer")).to_have_text("False")
    left = toasts(page)
    await expect(left).to_have_text(["fourth×", "fifth×"])
    for text in ("fifth", "fourth"):
        await left.filter(has_text=text).get_by_role("button", name="Dismiss").click()
    await expect(left).to_have_count(0)


async def test_toasts_can_be_closed_in_front_of_a_dialog_of_the_page(
    visit: Visit, actions: Server
) -> None:
    page = await opened(visit, actions)
    close = toasts(page).get_by_role("button", name="Dismiss")
    await page.evaluate(TOAST, "before")
    await page.evaluate(
        """() => {
            const dialog = document.createElement("dialog");
            dialog.id = "own";
            dialog.append(document.createElement("p"));
            dialog.style = "transform: scale(0.5); overflow: hidden; contain: paint";
            document.body.append(dialog);
            dialog.showModal();
        }"""
    )
    await close.click()  # it was there first, and came along
    for text in ("one", "two"):
        await page.evaluate(TOAST, text)
    box, size = await toasts(page).first.bounding_box(), page.viewport_size
    assert box
    assert size
    assert (
        box["x"] + box["width"] > size["width"] - 40
    )  # the corner of the window, not of the dialog
    await close.first.click()
    await close.first.click()
    await expect(toasts(page)).to_have_count(0)
    await page.evaluate(TOAST, "stays")
    await page.evaluate("document.querySelector('#own').close()")
    await expect(toasts(page)).to_be_visible()
    await page.evaluate("document.querySelector('#own').remove()")
    await close.click()
    await expect(toasts(page)).to_have_count(0)


# -- download -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name", "content"),
    [
        ("bytes", "täble ☕ 表.csv", b"a,b\n"),
        ("large", "größe.bin", bytes(range(256)) * 1000),
        ("path", "main.py", (Path(__file__).parent / "pages/actions/main.py").read_bytes()),
    ],
)
async def test_a_file_is_saved(
    visit: Visit, actions: Server, kind: str, name: str, content: bytes
) -> None:
    page = await opened(visit, actions)
    async with page.expect_download() as waiting:
        await call(page, "download", kind)
    download = await waiting.value
    assert download.suggested_filename == name
    assert Path(await download.path()).read_bytes() == content


async def test_a_file_that_is_not_there_is_said(
    visit: Visit, actions: Server, watch: Watch
) -> None:
    watch.expect("gr:download was refused.*no such file")
    page = await opened(visit, actions)
    await raw(page, "gr:download", filename="x", file="nothing")
    async with page.expect_console_message():
        await call(page, "raw", {"type": "gr:download", "data": {"filename": "x", "file": "y"}})


# -- navigation ---------------------------------------------------------------------------------


async def test_a_url_opens_in_a_tab_that_knows_nothing_of_us(visit: Visit, actions: Server) -> None:
    page = await opened(visit, actions)
    async with page.context.expect_page() as waiting:
        await act(page, "open_url", "?other=1")
    tab = await waiting.value
    await tab.wait_for_load_state()
    assert tab.url == f"{actions.url}?other=1"
    assert await tab.evaluate("[window.opener, document.referrer]") == [None, ""]


async def test_a_url_that_leads_where_none_may_is_not_opened(
    visit: Visit, actions: Server, watch: Watch
) -> None:
    watch.expect("gr:open-url: .* was not opened")
    page = await opened(visit, actions)
    for url in ("javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "blob:x"):
        before = len(watch.faults)
        await raw(page, "gr:open-url", url=url)  # our own server would not ask for it
        assert len(watch.faults) == before + 1
    assert len(page.context.pages) == 1


async def test_a_page_is_a_hash_route(visit: Visit, actions: Server) -> None:
    page = await opened(visit, actions)
    await page.evaluate("gr.expose('x', {}); addEventListener('hashchange', () => called.push(1))")
    await act(page, "set_page", "list/all", {"q": "a b&c", "none": None})
    assert page.url == f"{actions.url}#list%2Fall?q=a+b%26c"
    await act(page, "set_page", "cart")
    assert page.url == f"{actions.url}#cart"
    await page.go_back()
    assert page.url.endswith("#list%2Fall?q=a+b%26c")
    await expect(page.locator("#here")).to_be_visible()  # no other document
    assert await called(page, 3) == [1, 1, 1]


# -- content and style --------------------------------------------------------------------------


async def test_content_is_text_or_harmless_html(visit: Visit, actions: Server) -> None:
    page = await opened(visit, actions)
    place = page.locator("#place")
    await act(page, "set_content", "place", text="<b>1</b> & 2")
    await expect(place).to_have_text("<b>1</b> & 2")
    await act(page, "set_content", "#place", html="<b>bold</b><script>called.push(1)</script>")
    await expect(place).to_have_js_property("innerHTML", "<b>bold</b>")
    await act(page, "set_content", ".many", text="both")
    await expect(page.locator(".many")).to_have_text(["both", "both"])
    await act(page, "set_content", "place", text="")
    await expect(place).to_be_empty()


async def test_styles_are_set(visit: Visit, actions: Server, watch: Watch) -> None:
    watch.expect("gr:style: background-image was not set")
    page = await opened(visit, actions)
    styles = {"color": "rgb(1, 2, 3)", "fontWeight": "700", "--own": "x"}
    await act(page, "set_style", ".many", styles)
    for one in await page.locator(".many").all():
        await expect(one).to_have_css("color", "rgb(1, 2, 3)")
        await expect(one).to_have_css("font-weight", "700")
        await expect(one).to_have_css("--own", "x")
    await act(page, "set_style", "#place", {"background-image": "url(javascript:x)"})
    assert len(watch.faults) == 1


# -- the page's own functions -------------------------------------------------------------------


async def test_functions_the_page_exposed_are_called(
    visit: Visit, actions: Server, watch: Watch
) -> None:
    page = await opened(visit, actions)
    await act(page, "call", "charts", "draw", 1, [2], {"a": None})
    assert await page.evaluate("called") == [[1, [2], {"a": None}]]

    watch.expect("gr:call charts.erase was refused.*charts exposes no erase")
    watch.expect("gr:call charts.fail was refused.*no ink")
    await act(page, "call", "charts", "erase")
    await act(page, "call", "charts", "fail")
    assert len(watch.verdict()) == 0
    assert len(watch.faults) == 2

    # A page may tell its server.
    await page.evaluate(
        "void gr.on('gr:error', (e, _, what) => gr.send('report', [what, e.message]))"
    )
    await act(page, "call", "charts", "fail")
    await act(page, "import_module", "/nowhere.js")
    watch.expect("404")
    while len(reports := await call(page, "fetched")) < 2:
        pass
    assert sorted(what for what, _ in reports) == ["gr:call charts.fail", "gr:import"]


async def test_a_module_is_imported_and_then_called(visit: Visit, actions: Server) -> None:
    page = await opened(visit, actions)
    await act(page, "call", "late", "note", "before it is there")
    await act(page, "import_module", "late.js")
    await act(page, "call", "late", "note", "and after")
    calls = [["late", "before it is there"], ["late", "and after"]]
    assert await called(page, 2) == calls


async def test_a_module_from_elsewhere_is_refused(
    visit: Visit, actions: Server, watch: Watch
) -> None:
    watch.expect("gr:import was refused.*may not be imported from https://evil.example")
    page = await opened(visit, actions)
    async with page.expect_console_message():
        await act(page, "import_module", "https://evil.example/x.js")
    assert not [url for url in watch.requests if "evil" in url]


# -- log, and what is none of these -------------------------------------------------------------


async def test_what_a_handler_prints_is_in_the_console(
    visit: Visit, actions: Server, watch: Watch
) -> None:
    watch.expect("something is (odd|wrong)")
    page = await opened(visit, actions)
    lines: list[tuple[str, str]] = []
    page.on("console", lambda message: lines.append((message.type, message.text)))
    await call(page, "say")
    await page.evaluate("null")
    assert lines == [
        ("info", "[server] printed by a handler"),
        ("warning", "[server] something is odd"),
        ("error", "[server] something is wrong"),
    ]


@pytest.mark.parametrize(
    ("type", "data", "said"),
    [
        ("gr:levitate", {}, "the server asks for gr:levitate, which this page does not know"),
        ("gr:content", {"target": "no-such", "text": ""}, 'nothing here is called "no-such"'),
        ("gr:style", {"selector": ".no-such", "styles": {}}, 'nothing here is called ".no-such"'),
        ("gr:content", {"target": "2nd", "text": ""}, 'gr:content: nothing here is called "2nd"'),
        ("gr:style", {"target": "<<", "styles": {}}, 'gr:style: nothing here is called "<<"'),
    ],
)
async def test_nothing_is_passed_over_in_silence(
    visit: Visit, actions: Server, watch: Watch, type: str, data: dict[str, Any], said: str
) -> None:
    watch.expect(said)
    page = await opened(visit, actions)
    await raw(page, type, **data)
    assert [fault for fault in watch.faults if said in fault]


async def test_events_that_nobody_handles_are_forgotten_aloud(
    visit: Visit, actions: Server, watch: Watch
) -> None:
    watch.expect("nothing handles app:tick: the oldest of 100 that wait are forgotten")
    page = await opened(visit, actions)
    for number in range(105):
        await page.evaluate(
            "data => gr.send('raw', data)", {"type": "app:tick", "data": {"n": number}}
        )
    await raw(page, "app:last")
    assert len(watch.faults) == 1  # once for each type
    heard = await page.evaluate(
        """() => new Promise((done) => {
            const all = [];
            gr.on("app:tick", ({ n }) => all.push(n) === 99 && done(all));
        })"""
    )
    assert heard == list(range(6, 105))
